"""The server: health, reflection, limits, and addresses."""

from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from lares.detect.v1.detect_service_pb2 import DetectObjectsRequest
from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Conflict, Invalid
from mesh.rpc import GrpcServer, call, metadata, problem_of
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from tests.support.rpc_harness import Harness, wait_forever
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.usefixtures("calling_as_itself")


async def test_reflection_needs_a_key(harness: Harness) -> None:
    requests = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="lares.store.v1.KeyService"),
    ]
    stub: Any = ServerReflectionStub(harness.public)  # type: ignore[arg-type]
    responses = [
        response
        async for response in stub.ServerReflectionInfo(iter(requests), metadata=(("x-api-key", "good"),))
    ]
    assert {service.name for service in responses[0].list_services_response.service} == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "lares.store.v1.EventService",
        "lares.store.v1.KeyService",
    }
    file = FileDescriptorProto.FromString(responses[1].file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "lares/store/v1/key_service.proto"
    assert await stub.ServerReflectionInfo().code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_largest_request_of_the_contracts_is_read(harness: Harness) -> None:
    image = DetectObjectsRequest(image=bytes(32 * 2**20), camera_id="x" * 63)
    request = keys.RevokeKeyRequest(key_id="x" * image.ByteSize())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keys_rpc.KeyServiceStub(harness.public).RevokeKey(request, metadata=(("x-api-key", "good"),))
    assert problem_of(refused.value).reason == "BAD_REQUEST"  # it was read and validated


@pytest.fixture
def few_calls(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("mesh.rpc.server.CLIENT_CALLS", 3)
    return 3


@pytest.fixture
def few_watching(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("mesh.rpc.server.CLIENT_WATCHES", 2)
    return 2


async def test_calls_of_clients_are_limited_and_those_of_siblings_are_not(
    few_calls: int, harness: Harness
) -> None:
    harness.watched.rest = wait_forever
    stub = events_rpc.EventServiceStub(harness.public)
    good = (("x-api-key", "good"),)
    watching = [stub.WatchEvents(events.WatchEventsRequest(), metadata=good) for _ in range(few_calls)]
    await until(lambda: harness.watched.watching == few_calls)
    ask = keys_rpc.KeyServiceStub(harness.public).ListKeys
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await ask(keys.ListKeysRequest(), metadata=good)
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    siblings = [
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
    for streaming in (*watching, *siblings):
        streaming.cancel()


async def test_who_has_no_key_cannot_take_all_calls_by_watching_health(
    few_watching: int, harness: Harness
) -> None:
    clients: Any = health_pb2_grpc.HealthStub(harness.public)
    siblings: Any = health_pb2_grpc.HealthStub(harness.private)
    watching = [clients.Watch(HealthCheckRequest()) for _ in range(few_watching)]
    for each in watching:
        await each.read()
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await clients.Watch(HealthCheckRequest()).read()
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await clients.Check(HealthCheckRequest(service="lares.store.v1.EventService"))
    for _ in range(2 * few_watching):
        watching.append(siblings.Watch(HealthCheckRequest()))
        await watching[-1].read()
    watching[0].cancel()

    async def there_is_room() -> bool:
        watching.append(clients.Watch(HealthCheckRequest()))
        try:
            return bool(await watching[-1].read())
        except grpc.aio.AioRpcError:
            return False

    await until_async(there_is_room)
    for each in watching:
        each.cancel()


async def test_siblings_need_what_all_servicers_of_a_service_need() -> None:
    server, asked = GrpcServer(CallInterceptor), list[object]()

    async def find(parts: object) -> set[str]:
        asked.append(parts)
        return set()

    events_service, keys_service = "lares.store.v1.EventService", "lares.store.v1.KeyService"
    uncalled: Any = Mock()
    server.add(events_rpc.add_EventServiceServicer_to_server, uncalled, events_service, needs=["a", "b"])
    server.add(keys_rpc.add_KeyServiceServicer_to_server, uncalled, keys_service, needs=["b", "c"])
    server.report_health(find)
    address = await server.listen("127.0.0.1:0", door=Door.SIBLINGS)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(HealthCheckRequest(service="lares.store"))
    assert asked == [{"b"}]
    await server.stop(0)


async def test_a_taken_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.ports.TAKEN_SECONDS", 0.3)
    first, second = GrpcServer(CallInterceptor), GrpcServer(CallInterceptor)
    address = await first.listen("127.0.0.1:0")
    host, port = address.split(":")
    with pytest.raises(Conflict, match=f"port {port} on {host} is taken") as taken:
        await second.listen(address)
    assert taken.value.reason == "PORT_TAKEN"
    await first.stop(0)
    await second.stop(0)


async def test_an_address_that_only_grpc_can_bind_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `[::]` on a machine without IPv6, where gRPC listens on all addresses of IPv4."""

    async def refuse(host: str, port: int) -> None:
        raise Invalid(f"cannot listen on {host}:{port}", "BAD_ADDRESS")

    monkeypatch.setattr("mesh.rpc.server.wait_until_free", refuse)
    server = GrpcServer(CallInterceptor)
    assert not (await server.listen("[::]:0")).endswith(":0")
    await server.stop(0)


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
async def test_an_address_of_no_interface_is_not_reported_as_taken(host: str) -> None:
    server = GrpcServer(CallInterceptor)
    with pytest.raises(Invalid, match=f"cannot listen on {host}:50051: ") as refused:
        await server.listen(f"{host}:50051")
    assert refused.value.reason == "BAD_ADDRESS"
    await server.stop(0)
