"""The server boundary and the client function, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from lares.detect.v1.detect_service_pb2 import DetectObjectsRequest
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.permissions import OF_A_KEY, READ, Permission
from mesh.problems import KINDS, Conflict, Internal, Invalid, NotFound, Problem, Unauthenticated, Unavailable
from mesh.rpc import Channels, GrpcServer, call, metadata, problem_of, stream
from mesh.rpc.interceptor import CallInterceptor
from mesh.rpc.server import ANSWERS, CLIENT_BYTES
from mesh.security import Caller, Door, current_caller
from tests.support.callers import calling_as
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.usefixtures("calling_as_itself")

KEY_ID = "6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11"


class FakeKeyServicer(keys_rpc.KeyServiceServicer):
    """Answers with who it thinks calls, or raises `problem`."""

    def __init__(self) -> None:
        self.problem: Exception | None = None

    async def ListKeys(self, request: keys.ListKeysRequest, context: object) -> keys.ListKeysResponse:
        who = current_caller()
        return keys.ListKeysResponse(keys=[keys.Key(id=who.id, name=f"{who.kind}:{who.name}")])

    async def RevokeKey(self, request: keys.RevokeKeyRequest, context: object) -> keys.RevokeKeyResponse:
        assert self.problem
        raise self.problem

    async def CreateKey(self, request: keys.CreateKeyRequest, context: object) -> keys.CreateKeyResponse:
        await asyncio.sleep(30)
        raise AssertionError("the deadline did not end the call")


class FakeEventServicer(events_rpc.EventServiceServicer):
    """One of the service's methods is enough here. With `rest` it does not end, and rests between answers."""

    def __init__(self) -> None:
        self.rest: Callable[[], Awaitable[object]] | None = None
        self.watching = 0

    async def WatchEvents(
        self, request: events.WatchEventsRequest, context: object
    ) -> AsyncIterator[events.WatchEventsResponse]:
        self.watching += 1
        try:
            for sequence in count(request.after + 1):
                if sequence == request.after + 4 and not self.rest:
                    break
                if sequence > request.after + 3 and self.rest:
                    await self.rest()
                answer = events.WatchEventsResponse()
                answer.change.sequence = sequence
                yield answer
        finally:
            self.watching -= 1
        raise Conflict("the cursor is gone", "CURSOR_EXPIRED", oldest="7")


@dataclass
class Harness:
    server: GrpcServer
    servicer: FakeKeyServicer
    private: grpc.aio.Channel
    public: grpc.aio.Channel
    watched: FakeEventServicer
    verified: list[str] = field(default_factory=list)
    # What becomes of those who show the key "good".
    known: Caller = field(default_factory=lambda: Caller.of_key("k1", "Ann"))
    refusal: Problem | None = None


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async def verify(secret: str) -> Caller:
        made.verified.append(secret)
        if secret != "good":
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        if made.refusal:
            raise made.refusal
        return made.known

    server = GrpcServer(lambda door: CallInterceptor(door, verify))
    servicer = FakeKeyServicer()
    add_keys = keys_rpc.add_KeyServiceServicer_to_server
    server.add(add_keys, servicer, "lares.store.v1.KeyService", needs=["postgres"])
    watched = FakeEventServicer()  # type: ignore[abstract]
    server.add(events_rpc.add_EventServiceServicer_to_server, watched, "lares.store.v1.EventService")
    server.add_reflection()
    private = await server.listen(f"unix:{tmp_path}/s", door=Door.SIBLINGS)
    public = await server.listen("127.0.0.1:0")
    await server.start()
    channels = Channels({}, {"store": private, "outside": public})
    made = Harness(server, servicer, channels.to("store"), channels.to("outside"), watched)
    yield made
    await channels.close()
    await server.stop(0)


async def test_a_service_calls_as_itself(harness: Harness) -> None:
    answer = await call(keys_rpc.KeyServiceStub(harness.private).ListKeys, keys.ListKeysRequest())
    assert answer.keys[0].name == "sibling:"
    assert harness.verified == []


async def test_a_sibling_passes_the_end_caller_on(harness: Harness) -> None:
    with calling_as(Caller.of_key("k9", "Zoë")):
        answer = await call(keys_rpc.KeyServiceStub(harness.private).ListKeys, keys.ListKeysRequest())
    assert (answer.keys[0].id, answer.keys[0].name) == ("k9", "key:Zoë")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "NO_API_KEY"),
        ((("x-api-key", "bad"),), "BAD_API_KEY"),
        # What only a sibling may say counts for nothing from outside.
        ((("x-lares-caller-id", "k9"),), "NO_API_KEY"),
    ],
)
async def test_strangers_are_refused(
    harness: Harness, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keys_rpc.KeyServiceStub(harness.public).ListKeys(keys.ListKeysRequest(), metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert problem_of(refused.value).reason == reason


async def test_a_key_opens_the_public_address(harness: Harness) -> None:
    stub = keys_rpc.KeyServiceStub(harness.public)
    answer = await stub.ListKeys(keys.ListKeysRequest(), metadata=(("x-api-key", "good"),))
    assert answer.keys[0].name == "key:Ann"


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind is not Internal])
async def test_every_problem_survives_the_wire(harness: Harness, kind: type[Problem]) -> None:
    harness.servicer.problem = kind("what happened", "WHY", detail="Ü")
    with pytest.raises(kind) as restored:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id=KEY_ID))
    assert type(restored.value) is kind
    assert (restored.value.message, restored.value.reason) == ("what happened", "WHY")
    assert restored.value.metadata == {"detail": "Ü"}


async def test_a_bug_leaves_masked(harness: Harness) -> None:
    harness.servicer.problem = ValueError("SELECT secret FROM api_keys at /srv/lares")
    with pytest.raises(Internal) as masked:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id=KEY_ID))
    assert masked.value.message == "internal error"
    assert "secret" not in str(masked.value.metadata)


async def test_the_contracts_rules_are_checked(harness: Harness) -> None:
    with pytest.raises(Invalid, match="key_id") as invalid:
        await call(keys_rpc.KeyServiceStub(harness.private).RevokeKey, keys.RevokeKeyRequest(key_id="x"))
    assert invalid.value.reason == "BAD_REQUEST"


async def test_a_stream_gives_its_answers_then_its_problem(harness: Harness) -> None:
    seen = []
    with pytest.raises(Conflict) as expired:
        async for answer in stream(
            events_rpc.EventServiceStub(harness.private).WatchEvents, events.WatchEventsRequest(after=4)
        ):
            seen.append(answer.change.sequence)
    assert seen == [5, 6, 7]
    assert (expired.value.reason, expired.value.metadata) == ("CURSOR_EXPIRED", {"oldest": "7"})


async def test_streams_are_guarded_too(harness: Harness) -> None:
    under_way = events_rpc.EventServiceStub(harness.public).WatchEvents(events.WatchEventsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in under_way:
            raise AssertionError("an answer without a key")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def nothing_more() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("rest", [nothing_more, at_once])
async def test_a_stream_ends_with_its_key_and_not_with_the_store(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, rest: Callable[[], Awaitable[object]]
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.RECHECK_SECONDS", 0.01)
    harness.watched.rest = rest
    stub = events_rpc.EventServiceStub(harness.public)
    under_way = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    seen: list[int] = []

    async def read() -> None:
        async for answer in under_way:
            seen.append(answer.change.sequence)

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
async def test_a_stream_ends_when_its_caller_may_do_other_things_than_before(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    permissions: frozenset[Permission],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    monkeypatch.setattr("mesh.rpc.interceptor.RECHECK_SECONDS", 0.01)
    harness.watched.rest = nothing_more
    stub = events_rpc.EventServiceStub(harness.public)
    under_way = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    for _ in range(3):
        await under_way.read()
    asked = len(harness.verified)
    await until(lambda: len(harness.verified) >= asked + 3)
    harness.known = replace(harness.known, permissions=permissions)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(under_way.read(), 90)
    assert (ended.value.code(), problem_of(ended.value).reason) == (code, reason)
    await until(lambda: harness.watched.watching == 0)


async def test_who_leaves_a_stream_ends_it(harness: Harness) -> None:
    harness.watched.rest = nothing_more
    stub = events_rpc.EventServiceStub(harness.public)
    under_way = stub.WatchEvents(events.WatchEventsRequest(), metadata=(("x-api-key", "good"),))
    first: Any = await under_way.read()
    assert first.change.sequence == 1
    assert harness.watched.watching == 1
    under_way.cancel()
    await until(lambda: harness.watched.watching == 0)


async def test_every_call_has_a_deadline(harness: Harness) -> None:
    stub = keys_rpc.KeyServiceStub(harness.private)
    with pytest.raises(Unavailable) as late:
        await call(stub.CreateKey, keys.CreateKeyRequest(name="slow"), timeout=0.1)
    assert late.value.message == "this took too long"


async def test_health_is_open_by_name_and_whole(harness: Harness) -> None:
    stub: Any = health_pb2_grpc.HealthStub(harness.public)
    names = ("", "lares.store.v1.KeyService", "lares.store.v1.EventService")

    async def serving() -> list[str]:
        answers = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
        return [name for name, answer in zip(names, answers, strict=True) if answer.status == ANSWERS.SERVING]

    assert await serving() == []
    for missing, left in (
        ([], list(names)),
        (["postgres"], ["lares.store.v1.EventService"]),
        (["kafka"], list(names[1:])),
        ([], list(names)),
    ):
        await harness.server.set_missing(missing)
        assert await serving() == left
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.Check(health_pb2.HealthCheckRequest(service="lares.nothing"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_strangers_send_is_not_read(harness: Harness) -> None:
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


async def test_the_largest_that_the_contracts_allow_comes_through(harness: Harness) -> None:
    image = DetectObjectsRequest(image=bytes(32 * 2**20), camera_id="x" * 63)
    request = keys.RevokeKeyRequest(key_id="x" * image.ByteSize())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keys_rpc.KeyServiceStub(harness.public).RevokeKey(request, metadata=(("x-api-key", "good"),))
    assert problem_of(refused.value).reason == "BAD_REQUEST"  # read, and looked at


@pytest.fixture
def few_calls(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("mesh.rpc.server.CLIENT_CALLS", 3)
    return 3


async def test_clients_are_bounded_and_siblings_are_not(few_calls: int, harness: Harness) -> None:
    harness.watched.rest = nothing_more
    stub = events_rpc.EventServiceStub(harness.public)
    good = (("x-api-key", "good"),)
    watching = [stub.WatchEvents(events.WatchEventsRequest(), metadata=good) for _ in range(few_calls)]
    await until(lambda: harness.watched.watching == few_calls)
    ask = keys_rpc.KeyServiceStub(harness.public).ListKeys
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await ask(keys.ListKeysRequest(), metadata=good)
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ours = [
        events_rpc.EventServiceStub(harness.private).WatchEvents(
            events.WatchEventsRequest(), metadata=metadata()
        )
        for _ in range(2 * few_calls)
    ]
    await until(lambda: harness.watched.watching == 3 * few_calls)
    await call(keys_rpc.KeyServiceStub(harness.private).ListKeys, keys.ListKeysRequest())
    watching[0].cancel()
    await until(lambda: harness.watched.watching == 3 * few_calls - 1)

    async def there_is_room() -> bool:
        try:
            return bool(await ask(keys.ListKeysRequest(), metadata=good))
        except grpc.aio.AioRpcError:
            return False

    await until_async(there_is_room)
    for under_way in (*watching, *ours):
        under_way.cancel()


async def test_reflection_tells_the_contracts_to_who_has_a_key(harness: Harness) -> None:
    wishes = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="lares.store.v1.KeyService"),
    ]
    stub: Any = ServerReflectionStub(harness.public)  # type: ignore[arg-type]
    answers = [
        answer async for answer in stub.ServerReflectionInfo(iter(wishes), metadata=(("x-api-key", "good"),))
    ]
    assert {service.name for service in answers[0].list_services_response.service} == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "lares.store.v1.EventService",
        "lares.store.v1.KeyService",
    }
    file = FileDescriptorProto.FromString(answers[1].file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "lares/store/v1/key_service.proto"
    assert await stub.ServerReflectionInfo().code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_taken_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.ports.TAKEN_SECONDS", 0.3)
    first, second = GrpcServer(CallInterceptor), GrpcServer(CallInterceptor)
    address = await first.listen("127.0.0.1:0")
    host, port = address.split(":")
    with pytest.raises(Conflict, match=f"port {port} on {host} is taken") as taken:
        await second.listen(address)
    assert taken.value.reason == "PORT_TAKEN"
    await first.stop(0)
    await second.stop(0)


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
async def test_an_address_that_nobody_has_is_not_said_to_be_taken(host: str) -> None:
    server = GrpcServer(CallInterceptor)
    with pytest.raises(Invalid, match=f"cannot listen on {host}:50051: ") as refused:
        await server.listen(f"{host}:50051")
    assert refused.value.reason == "BAD_ADDRESS"
    await server.stop(0)


async def test_a_service_that_is_nowhere_is_said() -> None:
    with pytest.raises(Invalid, match="LARES_PEERS"):
        Channels({}, {}).to("store")


async def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    channels = Channels({}, {"store": f"unix:{tmp_path}/nobody"})
    with pytest.raises(Unavailable) as gone:
        await call(keys_rpc.KeyServiceStub(channels.to("store")).ListKeys, keys.ListKeysRequest(), timeout=1)
    await channels.close()
    # A client may see this, and need not know where the socket is.
    assert (gone.value.message, gone.value.reason) == (
        "a part of Lares cannot be reached at present",
        "UNAVAILABLE",
    )


def test_kinds_are_told_apart_by_code() -> None:
    assert len(KINDS) == 8
    assert KINDS[grpc.StatusCode.NOT_FOUND] is NotFound


async def test_a_server_may_be_slow_to_greet(harness: Harness, tmp_path: Path) -> None:
    """As on a machine that stalls: one that accepts a connection is not given up within moments."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        there, back = await asyncio.open_unix_connection(tmp_path / "s")
        await asyncio.gather(relay(reader, back), relay(there, writer))

    async with await asyncio.start_unix_server(accept, tmp_path / "slow.sock"):
        channels = Channels({}, {"store": f"unix:{tmp_path / 'slow.sock'}"})
        stub = keys_rpc.KeyServiceStub(channels.to("store"))
        answer = await call(stub.ListKeys, keys.ListKeysRequest())
        await channels.close()
    assert answer.keys[0].name == "sibling:"
