"""The content of an idle Lares, in the form of `home-r0.json`.

It is read by gRPC with a key, as a client does, and from the log. It leaves out what may differ between two
correct runs: revisions, sequences, times of the wall clock, and assessments of outdated evidence. The
evidence of events that today's code has opened is of another version: its digests, and the ids of what was
made from it, are shown as the code of that home would have made them.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detection_pb2 import Detection
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.evidence_pb2 import Evidence
from lares.store.v1 import camera_service_pb2 as cameras
from lares.store.v1 import detection_service_pb2 as detections
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import media_service_pb2 as media
from lares.store.v1.camera_service_pb2_grpc import CameraServiceStub
from lares.store.v1.detection_service_pb2_grpc import DetectionServiceStub
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from lares.store.v1.key_service_pb2_grpc import KeyServiceStub
from lares.store.v1.media_service_pb2_grpc import MediaServiceStub
from mesh.topics import DEAD_LETTER_SERVICES, dead_letters
from store_svc.domain.evidence import EarlierEvent, digest_v1
from store_svc.times import micros
from tests.support.jobs_left import jobs_left
from tests.support.lares import Lares
from tests.support.topic_values import assessed_times, topic_values

Outcome = dict[str, Any]


async def read_outcome(lares: Lares, known: Outcome) -> Outcome:
    """Reads the outcome. Includes all assessments that `known`, the expected outcome, names."""
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        reader = _Reader(channel, lares.key)
        outcome: Outcome = {
            "cameras": await reader.cameras(),
            "keys": await reader.keys(),
            "media": await reader.media(),
            "events": await reader.events(),
            "rejections": await reader.rejections(),
        }
        outcome["failures"] = await reader.failures(list(outcome["events"]))
        outcome["assessments"] = {}
        names = await read_first_names(lares, known)
        for id, event in outcome["events"].items():
            for assessment in await reader.assessments(id):
                shown = names.get(assessment.id, assessment.id)
                if assessment.evidence_digest == event["digest"] or shown in known["assessments"]:
                    outcome["assessments"][shown] = await reader.assessment(assessment)
    for each in (*outcome["events"].values(), *outcome["assessments"].values()):
        each["digest"] = names.get(each["digest"], each["digest"])
    for event in outcome["events"].values():
        event["assessment"] = names.get(event["assessment"], event["assessment"])
    outcome["left"] = await jobs_left(lares.home)
    times: Counter[str] = Counter()
    for (event_id, digest, request), count in (await assessed_times(lares)).items():
        times[" ".join((event_id, names.get(digest, digest), request))] += count
    outcome["published"] = {
        key: count for key, count in times.items() if count > 1 or key in known["published"]
    }
    outcome["dead_letters"] = {
        service: sorted({_sha256(value) for value in await topic_values(lares, dead_letters(service))})
        for service in DEAD_LETTER_SERVICES
    }
    return outcome


def by_todays_rules(wanted: Outcome, found: Outcome) -> Outcome:
    """What is wanted, with the factors of today's rules in assessments that today's code has made. A language
    model's score, and its own reasons, do not depend on the rules."""
    changed = dict(wanted["assessments"])
    for id, theirs in found["assessments"].items():
        mine = changed.get(id)
        if mine and any(name == "mode" for name, *_ in theirs["factors"]):
            factors = [factor for factor in theirs["factors"] if factor[0] != "reason"]
            factors += [factor for factor in mine["factors"] if factor[0] == "reason"]
            changed[id] = mine | {"factors": factors}
    return wanted | {"assessments": changed}


async def read_first_names(lares: Lares, known: Outcome) -> dict[str, str]:
    """Of the events that today's code has opened: the digests of their evidence, and the ids of assessments
    that were made from it, with what the code of that home would have had instead."""
    wanted = {
        (each["event"], each["digest"], each["request"]): id for id, each in known["assessments"].items()
    }
    names: dict[str, str] = {}
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        reader = _Reader(channel, lares.key)
        for event_id in await reader.events():
            evidence = await reader.evidence(event_id)
            if not evidence.derivation:
                continue
            ids = [UUID(found.id) for found in evidence.detections]
            history = [EarlierEvent(UUID(one.event_id), micros(one.started_at)) for one in evidence.history]
            names[evidence.digest] = digest_v1(ids, history, evidence.time_zone)
            for each in await reader.assessments(event_id):
                key = event_id, names.get(each.evidence_digest, ""), each.request_id
                if key in wanted:
                    names[each.id] = wanted[key]
    return names


def differences(wanted: Outcome, found: Outcome) -> list[str]:
    """Returns a line for each entry that differs."""
    lines = []
    for kind in sorted(wanted.keys() | found.keys()):
        mine, theirs = wanted.get(kind), found.get(kind)
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            lines += [f"{kind}:\n    {mine}\n    {theirs}"] if mine != theirs else []
            continue
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                lines.append(f"{kind} {name}:\n    {mine.get(name)}\n    {theirs.get(name)}")
    return lines


class _Reader:
    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._metadata = (("x-api-key", key),)
        self._cameras, self._keys = CameraServiceStub(channel), KeyServiceStub(channel)
        self._media, self._events = MediaServiceStub(channel), EventServiceStub(channel)
        self._detections = DetectionServiceStub(channel)

    async def _pages(self, method: Callable[..., Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
        while True:
            page = await method(request, metadata=self._metadata, timeout=30)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cameras(self) -> Outcome:
        return {
            camera.id: {
                "name": camera.display_name,
                "time_zone": camera.time_zone,
                "enabled": camera.enabled,
                "thresholds": {label: round(score, 4) for label, score in sorted(camera.thresholds.items())},
            }
            async for page in self._pages(self._cameras.ListCameras, cameras.ListCamerasRequest())
            for camera in page.cameras
        }

    async def keys(self) -> list[list[str]]:
        answer = await self._keys.ListKeys(keys.ListKeysRequest(), metadata=self._metadata, timeout=30)
        named = [(key.name, key.HasField("revoked_at")) for key in answer.keys]
        return [[name, "revoked" if revoked else "valid"] for name, revoked in sorted(named)]

    async def media(self) -> Outcome:
        found = {}
        async for page in self._pages(self._media.ListMedia, media.ListMediaRequest()):
            for stored in page.media:
                request = detections.ListDetectionsRequest(media_id=stored.media.id)
                found[stored.media.id] = {
                    "camera": stored.media.camera_id,
                    "sha256": stored.media.sha256,
                    "captured_at": _time(stored.media.captured_at),
                    "detections": [
                        [one.id, one.label, round(one.score, 3)] for one in await self._found(request)
                    ],
                }
        return found

    async def events(self) -> Outcome:
        """Returns the events. `digest` is that of the evidence which the current assessment was made from."""
        found = {}
        async for page in self._pages(self._events.ListEvents, events.ListEventsRequest()):
            for event in page.events:
                request = detections.ListDetectionsRequest(event_id=event.id)
                found[event.id] = {
                    "camera": event.camera_id,
                    "status": event.status,
                    "closed": event.closed,
                    "started_at": _time(event.started_at),
                    "ended_at": _time(event.ended_at),
                    "labels": list(event.labels),
                    "detections": [one.id for one in await self._found(request)],
                    "digest": event.assessment.evidence_digest,
                    "assessment": event.assessment.id,
                }
        return found

    async def _found(self, request: detections.ListDetectionsRequest) -> list[Detection]:
        """Returns the detections of all pages, by id."""
        pages = self._pages(self._detections.ListDetections, request)
        found = [one.detection async for page in pages for one in page.detections]
        return sorted(found, key=lambda one: one.id)

    async def assessments(self, event_id: str) -> list[Assessment]:
        request = events.ListAssessmentsRequest(event_id=event_id)
        pages = self._pages(self._events.ListAssessments, request)
        return [assessment async for page in pages for assessment in page.assessments]

    async def assessment(self, message: Assessment) -> Outcome:
        return {
            "event": message.event_id,
            "digest": message.evidence_digest,
            "request": message.request_id,
            "score": message.score,
            "severity": message.severity,
            "summary": message.summary,
            "reasoner": message.reasoner,
            "model": message.model,
            "raw_answer": await self._raw_answer(message),
            "factors": [[f.factor, f.points, f.text, list(f.detection_ids)] for f in message.factors],
        }

    async def evidence(self, event_id: str) -> Evidence:
        request = events.GetEvidenceRequest(event_id=event_id)
        answer = await self._events.GetEvidence(request, metadata=self._metadata, timeout=30)
        return answer.evidence

    async def _raw_answer(self, message: Assessment) -> str:
        request = events.GetRawAnswerRequest(assessment_id=message.id)
        answer = await self._events.GetRawAnswer(request, metadata=self._metadata, timeout=30)
        return answer.raw_answer

    async def failures(self, event_ids: list[str]) -> Outcome:
        request = events.BatchGetFailuresRequest(event_ids=event_ids)
        answer = await self._events.BatchGetFailures(request, metadata=self._metadata, timeout=30)
        return {one.event_id: [one.reason, one.given_up_request_id] for one in answer.failures}

    async def rejections(self) -> Outcome:
        return {
            one.id: [one.camera_id, one.path, one.reason, one.detail]
            async for page in self._pages(self._media.ListRejections, media.ListRejectionsRequest())
            for one in page.rejections
        }


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime(tzinfo=UTC).isoformat()


def _sha256(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
