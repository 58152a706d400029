"""What gRPC is told about calls and connections between services."""

import json
from importlib import import_module
from typing import Any

from mesh.config import SIBLINGS
from mesh.rpc.protocol import CHANNEL_OPTIONS, SERVER_OPTIONS
from mesh.rpc.service_config import service_config

# The changes that are not made again after an UNAVAILABLE, because they might be made twice. A method that is
# added has an `idempotency_level` in its contract or a place here.
MADE_ONCE = {
    "CameraService": {"CreateCamera", "DeleteCamera", "UpdateCamera"},
    "EventService": {"IdentifyTrack", "ReassessEvent", "SetFeedback"},
    "HouseService": {
        *("CreateExpectedVisit", "UpdateExpectedVisit", "DeleteExpectedVisit"),
        *("CreatePerson", "UpdatePerson", "DeletePerson"),
        *("ReportPresence", "SetMode", "SetModeSchedule", "SetSiteNotes"),
    },
    "IngestService": {"UploadMedia"},
    "JobService": {"LeaseJobs"},
    "KeyService": {"CreateKey"},
    "ReasonService": {"AssessEvent"},
    "UploadService": {"BeginUpload"},
}
CONTRACTS = {
    "store": (
        *("v1.camera", "v1.detection", "v1.event", "v1.house", "v1.key", "v1.media", "v1.rendition"),
        *("internal.v1.file", "internal.v1.job", "internal.v1.key_check", "internal.v1.lease"),
        *("internal.v1.offset", "internal.v1.upload"),
    ),
    "ingest": ("v1.ingest",),
    "detect": ("v1.detect", "internal.v1.progress"),
    "reason": ("v1.reason",),
}


def config(service: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(service_config(service))
    return made


def test_what_is_made_again_and_what_is_not() -> None:
    once = dict[str, set[str]]()
    assert set(CONTRACTS) == set(SIBLINGS)
    for service, files in CONTRACTS.items():
        (policy,) = config(service)["methodConfig"]
        again = {(name["service"], name["method"]) for name in policy["name"]}
        for file in files:
            module = import_module(f"lares.{service}.{file}_service_pb2")
            for declared in module.DESCRIPTOR.services_by_name.values():
                for method in declared.methods:
                    if (declared.full_name, method.name) not in again:
                        once.setdefault(declared.name, set()).add(method.name)
    assert once == MADE_ONCE


def test_only_unavailable_is_a_reason_to_call_again_and_not_while_most_calls_fail() -> None:
    for service in SIBLINGS:
        made = config(service)
        assert [one["retryPolicy"]["retryableStatusCodes"] for one in made["methodConfig"]] == [
            ["UNAVAILABLE"]
        ]
        assert made["retryThrottling"] == {"maxTokens": 100, "tokenRatio": 0.5}


def test_servers_allow_the_pings_that_clients_send() -> None:
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    allowed = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    for side in (client, server):  # both notice that the other is gone
        assert side["grpc.keepalive_time_ms"] >= 2 * allowed
        assert side["grpc.keepalive_timeout_ms"] == side["grpc.http2.ping_timeout_ms"] == 10_000
        # Of a stream that says nothing for days.
        assert side["grpc.keepalive_permit_without_calls"] == 1
        assert side["grpc.http2.max_pings_without_data"] == 0


def test_one_that_is_gone_is_tried_and_looked_up_again_soon() -> None:
    """gRPC's own limits are two minutes and half a minute."""
    client = dict(CHANNEL_OPTIONS)
    assert client["grpc.initial_reconnect_backoff_ms"] <= client["grpc.max_reconnect_backoff_ms"] <= 5_000
    assert client["grpc.dns_min_time_between_resolutions_ms"] <= 5_000
