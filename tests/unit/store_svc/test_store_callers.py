"""Who may call what: every RPC of the store asks before it does anything else."""

from typing import Any, cast

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from lares.store.v1 import (
    camera_service_pb2,
    detection_service_pb2,
    event_service_pb2,
    key_service_pb2,
    media_service_pb2,
)
from mesh.problems import Denied, Unauthenticated
from mesh.security import ANONYMOUS, Caller
from store_svc.api.cameras import CameraServicer
from store_svc.api.detections import DetectionServicer
from store_svc.api.events import EventServicer
from store_svc.api.keys import KeyServicer
from store_svc.api.media import MediaServicer
from tests.support.callers import calling_as

SIBLINGS_ONLY = {"LeaseEvents", "RenewLeases", "ReleaseLeases", "ListUnknownFiles", "VerifyKey"}

nothing = cast(Any, None)  # touching any part of the store would fail
SERVICERS = {
    camera_service_pb2: CameraServicer(nothing, nothing, ()),
    detection_service_pb2: DetectionServicer(nothing),
    event_service_pb2: EventServicer(nothing, nothing, nothing, nothing, nothing, nothing),
    key_service_pb2: KeyServicer(nothing),
    media_service_pb2: MediaServicer(nothing),
}
METHODS = [
    (servicer, method)
    for module, servicer in SERVICERS.items()
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


async def ask(servicer: object, method: MethodDescriptor) -> None:
    answer = getattr(servicer, method.name)(GetMessageClass(method.input_type)(), None)
    if method.server_streaming:
        await anext(answer)
    else:
        await answer


def name(value: object) -> str | None:
    return value.full_name if isinstance(value, MethodDescriptor) else ""


def test_every_method_of_the_contracts_is_here() -> None:
    assert len(METHODS) == 29
    assert {method.name for _, method in METHODS} > SIBLINGS_ONLY


@pytest.mark.parametrize(("servicer", "method"), METHODS, ids=name)
async def test_nobody_calls_without_a_name(servicer: object, method: MethodDescriptor) -> None:
    with calling_as(ANONYMOUS), pytest.raises(Unauthenticated):
        await ask(servicer, method)


@pytest.mark.parametrize(("servicer", "method"), METHODS, ids=name)
async def test_a_key_opens_all_but_the_siblings_calls(servicer: object, method: MethodDescriptor) -> None:
    expected: type[Exception] = Denied if method.name in SIBLINGS_ONLY else AttributeError
    with calling_as(Caller("key", "id", "a phone")), pytest.raises(expected):
        await ask(servicer, method)
