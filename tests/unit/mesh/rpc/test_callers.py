"""Who may call: keys, siblings, and streams whose caller loses its permissions, over a real socket."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
import pytest

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.permissions import OF_A_KEY, READ, Permission
from mesh.problems import Unauthenticated, Unavailable
from mesh.rpc import call, problem_of
from mesh.rpc.server import CLIENT_BYTES
from mesh.security import Caller
from tests.support.callers import calling_as
from tests.support.rpc_harness import Harness, wait_forever
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("calling_as_itself")


async def test_a_service_calls_as_itself(harness: Harness) -> None:
    response = await call(keys_rpc.KeyServiceStub(harness.private).ListKeys, keys.ListKeysRequest())
    assert response.keys[0].name == "sibling:"
    assert harness.verified == []


async def test_a_sibling_names_the_end_caller(harness: Harness) -> None:
    with calling_as(Caller.of_key("k9", "Zoë")):
        response = await call(keys_rpc.KeyServiceStub(harness.private).ListKeys, keys.ListKeysRequest())
    assert (response.keys[0].id, response.keys[0].name) == ("k9", "key:Zoë")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "NO_API_KEY"),
        ((("x-api-key", "bad"),), "BAD_API_KEY"),
        # Headers that only siblings may send are ignored at the clients' door.
        ((("x-lares-caller-id", "k9"),), "NO_API_KEY"),
    ],
)
async def test_a_call_without_a_valid_key_is_refused(
    harness: Harness, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keys_rpc.KeyServiceStub(harness.public).ListKeys(keys.ListKeysRequest(), metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert problem_of(refused.value).reason == reason


async def test_a_call_with_a_key_reaches_the_clients_door(harness: Harness) -> None:
    stub = keys_rpc.KeyServiceStub(harness.public)
    response = await stub.ListKeys(keys.ListKeysRequest(), metadata=(("x-api-key", "good"),))
    assert response.keys[0].name == "key:Ann"


async def test_a_request_without_a_valid_key_is_not_read(harness: Harness) -> None:
    too_much = keys.RevokeKeyRequest(key_id="x" * (CLIENT_BYTES + 1))
    revoke = keys_rpc.KeyServiceStub(harness.public).RevokeKey
    for headers, code in (
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("x-api-key", "bad"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("x-api-key", "good"),), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await revoke(too_much, metadata=headers)
        assert refused.value.code() is code


async def test_a_stream_without_a_key_is_refused(harness: Harness) -> None:
    streaming = events_rpc.EventServiceStub(harness.public).WatchEvents(events.WatchEventsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in streaming:
            raise AssertionError("a response without a key")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def at_once() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("rest", [wait_forever, at_once])
async def test_a_stream_ends_with_its_key_and_not_with_the_store(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, rest: Callable[[], Awaitable[object]]
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.RECHECK_SECONDS", 0.01)
    harness.watched.rest = rest
    stub = events_rpc.EventServiceStub(harness.public)
    streaming = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    seen: list[int] = []

    async def read() -> None:
        async for response in streaming:
            seen.append(response.change.sequence)

    reading = asyncio.create_task(read())
    await until(lambda: len(seen) >= 3)
    harness.refusal = Unavailable("the store is away", "DATABASE_UNAVAILABLE")
    asked = len(harness.verified)
    await until(lambda: len(harness.verified) >= asked + 3)
    assert not reading.done()
    harness.refusal = Unauthenticated("this key is not known", "BAD_API_KEY")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asyncio.wait_for(reading, 90)
    assert (refused.value.code(), problem_of(refused.value).reason) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "BAD_API_KEY",
    )
    await until(lambda: harness.watched.watching == 0)
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    ("permissions", "code", "reason"),
    [
        (OF_A_KEY - {READ}, grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED"),
        (frozenset({READ}), grpc.StatusCode.UNAVAILABLE, "CALLER_CHANGED"),
    ],
)
async def test_a_stream_ends_when_the_permissions_of_its_caller_change(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    permissions: frozenset[Permission],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.RECHECK_SECONDS", 0.01)
    harness.watched.rest = wait_forever
    stub = events_rpc.EventServiceStub(harness.public)
    streaming = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    for _ in range(3):
        await streaming.read()
    asked = len(harness.verified)
    await until(lambda: len(harness.verified) >= asked + 3)
    harness.known = replace(harness.known, permissions=permissions)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(streaming.read(), 90)
    assert (ended.value.code(), problem_of(ended.value).reason) == (code, reason)
    await until(lambda: harness.watched.watching == 0)
