"""Who may call what: every method of the contracts, by every door, over real sockets."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.empty_pb2 import Empty
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from lares.store.v1 import camera_service_pb2 as cameras
from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.permissions import MANAGE_KEYS, OF_A_KEY, READ, SIBLING, permission_of
from mesh.problems import Internal, Unauthenticated
from mesh.rpc import (
    API_KEY,
    AS_ITSELF,
    CALLER_CAMERA,
    CALLER_ID,
    CALLER_PERMISSIONS,
    GrpcServer,
    Metadata,
    call,
    problem_of,
)
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door, NoCaller, as_itself, current_caller
from tests.support.callers import calling_as
from tests.support.contracts import add_every_service, is_internal, methods, path

ADMIN, READER, NOBODY = ((API_KEY, "admin"),), ((API_KEY, "reader"),), ()
CALLERS = {
    "admin": Caller.of_key("1", "an admin"),
    "reader": Caller("key", "2", "a reader", frozenset({READ})),
}
# What only siblings may say.
FORGED: tuple[Metadata, ...] = (
    ((AS_ITSELF, "1"),),
    ((CALLER_ID, "1"), (CALLER_PERMISSIONS, ",".join(map(str, OF_A_KEY | {SIBLING})))),
)
# No message of ours: whoever gets as far as reading it gets another answer.
GARBAGE = b"\xff"


@dataclass
class Doors:
    clients: grpc.aio.Channel
    siblings: grpc.aio.Channel
    operator: grpc.aio.Channel
    seen: list[tuple[str, Caller]] = field(default_factory=list)

    async def ask(
        self, channel: grpc.aio.Channel, name: str, headers: Metadata, body: bytes = b""
    ) -> tuple[grpc.StatusCode, str]:
        """The code and the reason that a call of this method ends with."""
        # On the wire, a stream of one message is no other than one message.
        method: Any = channel.unary_stream(name)
        under_way = method(body, metadata=headers, timeout=90)
        try:
            async for _ in under_way:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), problem_of(error).reason
        return grpc.StatusCode.OK, ""


@pytest.fixture(params=["socket", "in this process"])
async def doors(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Doors]:
    """Siblings come over a socket, or are services of the same process."""

    async def verify(secret: str) -> Caller:
        if secret not in CALLERS:
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        return CALLERS[secret]

    def seen(method: MethodDescriptor) -> None:
        opened.seen.append((method.full_name, current_caller()))

    server = GrpcServer(lambda door: CallInterceptor(door, verify))
    add_every_service(server, seen)
    server.add_reflection()
    addresses = [
        await server.listen("127.0.0.1:0"),
        await server.listen(f"unix:{tmp_path}/s", door=Door.SIBLINGS),
        await server.listen(f"unix:{tmp_path}/o", door=Door.OPERATOR),
    ]
    await server.start()
    clients, siblings, operator = map(grpc.aio.insecure_channel, addresses)
    if request.param != "socket":
        siblings = server.channel()
    opened = Doors(clients, siblings, operator)
    yield opened
    for channel in (opened.clients, opened.siblings, opened.operator):
        await channel.close()
    await server.stop(0)


def refused(outcome: tuple[grpc.StatusCode, str]) -> bool:
    return outcome[0] in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


async def test_each_caller_may_call_what_their_permissions_say_and_the_rest_is_not_read(doors: Doors) -> None:
    for method in methods():
        permission, name = permission_of(path(method)), path(method)
        assert await doors.ask(doors.clients, name, NOBODY, GARBAGE) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "NO_API_KEY",
        ), name
        for headers, permissions in ((ADMIN, OF_A_KEY), (READER, {READ})):
            outcome = await doors.ask(doors.clients, name, headers, GARBAGE)
            if is_internal(method):
                assert outcome[0] is grpc.StatusCode.UNIMPLEMENTED, name
            elif permission in permissions:
                assert not refused(outcome), name  # it was read
            else:
                reason = "SIBLINGS_ONLY" if permission == SIBLING else "NOT_PERMITTED"
                assert outcome == (grpc.StatusCode.PERMISSION_DENIED, reason), name
    assert doors.seen == []  # garbage reaches nobody


async def test_what_is_permitted_comes_through_with_its_caller(doors: Doors) -> None:
    for name, headers, who in (
        ("/lares.store.v1.EventService/GetStoreStatus", READER, CALLERS["reader"]),
        ("/lares.store.v1.KeyService/ListKeys", ADMIN, CALLERS["admin"]),
    ):
        assert await doors.ask(doors.clients, name, headers) == (grpc.StatusCode.OK, "")
        assert doors.seen[-1][1] == who


@pytest.mark.parametrize("forged", FORGED, ids=["as itself", "end caller"])
async def test_what_a_client_says_of_itself_gains_nothing(doors: Doors, forged: Metadata) -> None:
    for method in methods():
        for key in (NOBODY, ADMIN, READER):
            plain = await doors.ask(doors.clients, path(method), key, GARBAGE)
            assert await doors.ask(doors.clients, path(method), (*key, *forged), GARBAGE) == plain, path(
                method
            )
    name = "/lares.store.v1.EventService/GetStoreStatus"
    assert await doors.ask(doors.clients, name, (*READER, *forged)) == (grpc.StatusCode.OK, "")
    assert doors.seen[-1][1] == CALLERS["reader"]


async def test_a_sibling_names_its_end_caller_or_itself_and_never_both_or_neither(doors: Doors) -> None:
    itself, end_caller = (AS_ITSELF, "1"), (CALLER_ID, "1")
    for method in methods():
        for headers in ((), (itself, end_caller), ((API_KEY, "admin"),)):
            assert await doors.ask(doors.siblings, path(method), headers, GARBAGE) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "CALLER_UNCLEAR",
            ), path(method)
    assert doors.seen == []


async def test_a_sibling_may_do_all_as_itself_and_for_others_what_they_may(doors: Doors) -> None:
    for_a_reader = ((CALLER_ID, "2"), (CALLER_PERMISSIONS, str(READ)))
    # No end caller is a sibling, whatever is said of it.
    for_a_boaster = FORGED[1]
    for method in methods():
        name, permission = path(method), permission_of(path(method))
        assert not refused(await doors.ask(doors.siblings, name, ((AS_ITSELF, "1"),), GARBAGE)), name
        for headers, permissions in ((for_a_reader, {READ}), (for_a_boaster, OF_A_KEY)):
            outcome = await doors.ask(doors.siblings, name, headers, GARBAGE)
            assert refused(outcome) is (permission not in permissions), name


async def test_siblings_tell_which_camera_a_callers_key_is_of(doors: Doors) -> None:
    porch = Caller.of_key("3", "the porch's", frozenset({READ}), "porch")
    stub = cameras_rpc.CameraServiceStub(doors.siblings)
    with calling_as(porch):
        await call(stub.ListCameras, cameras.ListCamerasRequest())
    with calling_as(CALLERS["reader"]):
        await call(stub.ListCameras, cameras.ListCamerasRequest())
    assert [who for _, who in doors.seen] == [porch, CALLERS["reader"]]
    # At the clients' door the header says nothing.
    forged = (*READER, (CALLER_CAMERA, "porch"))
    await doors.ask(doors.clients, "/lares.store.v1.CameraService/ListCameras", forged)
    assert doors.seen[-1][1] == CALLERS["reader"]


async def test_the_operator_reaches_the_keys_and_nothing_else(doors: Doors) -> None:
    others = [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        *(path(method) for method in methods() if method.containing_service.name != "KeyService"),
    ]
    for name in others:
        for headers in (NOBODY, ADMIN, *FORGED):
            outcome = await doors.ask(doors.operator, name, headers)
            assert outcome[0] is grpc.StatusCode.UNIMPLEMENTED, name
    assert doors.seen == []
    await keys_rpc.KeyServiceStub(doors.operator).ListKeys(keys.ListKeysRequest(), timeout=90)
    ((_, who),) = doors.seen
    assert who == Caller("operator", permissions=frozenset({MANAGE_KEYS}))


async def test_reflection_knows_nothing_of_internal_services(doors: Doors) -> None:
    def asked() -> Iterable[ServerReflectionRequest]:
        yield ServerReflectionRequest(list_services="")
        for method in methods():
            yield ServerReflectionRequest(file_containing_symbol=method.containing_service.full_name)
            yield ServerReflectionRequest(file_by_filename=method.containing_service.file.name)
            yield ServerReflectionRequest(file_containing_symbol=method.input_type.full_name)

    stub: Any = ServerReflectionStub(doors.clients)  # type: ignore[arg-type]
    answers = [answer async for answer in stub.ServerReflectionInfo(asked(), metadata=ADMIN)]
    named = {service.name for service in answers[0].list_services_response.service}
    public = {method.containing_service.full_name for method in methods() if not is_internal(method)}
    assert named == public | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    told = set()
    for answer in answers[1:]:
        request = answer.original_request
        internal = ".internal." in (request.file_containing_symbol + request.file_by_filename).replace(
            "/", "."
        )
        assert answer.HasField("error_response") is internal, request
        for file in answer.file_descriptor_response.file_descriptor_proto:
            told.add(FileDescriptorProto.FromString(file).package)
    assert "lares.store.v1" in told
    assert not any("internal" in package for package in told)


def test_every_method_declares_its_permission() -> None:
    assert len(methods()) > 30
    assert all(permission_of(path(method)) for method in methods())


def test_what_only_siblings_call_has_packages_of_its_own() -> None:
    for method in methods():
        assert (permission_of(path(method)) == SIBLING) is is_internal(method), path(method)


async def test_a_method_that_declares_none_stops_the_start() -> None:
    file = FileDescriptorProto(
        name="tests/careless.proto", package="tests", dependency=[Empty.DESCRIPTOR.file.name]
    )
    service = file.service.add(name="Careless")
    service.method.add(
        name="Forget", input_type=".google.protobuf.Empty", output_type=".google.protobuf.Empty"
    )
    descriptor_pool.Default().Add(file)
    registered: list[object] = []
    with pytest.raises(Internal, match=r"tests\.Careless\.Forget") as problem:
        GrpcServer(CallInterceptor).add(
            lambda servicer, server: registered.append(server), object(), "tests.Careless"
        )
    assert problem.value.reason == "PERMISSION_NOT_DECLARED"
    assert registered == []


async def test_nor_is_it_answered_where_it_was_added_nevertheless(tmp_path: Path) -> None:
    async def forget(request: object, context: object) -> bytes:
        raise AssertionError("it was called")

    handler = grpc.method_handlers_generic_handler(
        "tests.Unknown", {"Forget": grpc.unary_unary_rpc_method_handler(forget)}
    )
    server = grpc.aio.server(interceptors=[CallInterceptor(Door.SIBLINGS)])
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        ask: Any = channel.unary_unary("/tests.Unknown/Forget")
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await ask(b"", metadata=((AS_ITSELF, "1"),))
    await server.stop(0)
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_for_nobody_does_not_leave(doors: Doors) -> None:
    stub = keys_rpc.KeyServiceStub(doors.siblings)
    with pytest.raises(NoCaller):
        await call(stub.ListKeys, keys.ListKeysRequest())
    assert doors.seen == []
    with as_itself():
        await call(stub.ListKeys, keys.ListKeysRequest())
    with calling_as(CALLERS["admin"]):
        await call(stub.ListKeys, keys.ListKeysRequest())
    assert [who for _, who in doors.seen] == [
        Caller("sibling", permissions=OF_A_KEY | {SIBLING}),
        Caller.of_key("1", "an admin"),
    ]
    with pytest.raises(NoCaller):
        await call(stub.ListKeys, keys.ListKeysRequest())


async def test_without_authentication_everybody_may_what_a_key_may() -> None:
    server = GrpcServer(lambda door: CallInterceptor(door, None))
    seen: list[Caller] = []
    add_every_service(server, lambda _: seen.append(current_caller()))
    address = await server.listen("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        ask = Doors(channel, channel, channel).ask
        assert await ask(channel, "/lares.store.v1.KeyService/ListKeys", ()) == (grpc.StatusCode.OK, "")
        for method in methods():
            outcome = await ask(channel, path(method), FORGED[0], GARBAGE)
            if is_internal(method):
                assert outcome[0] is grpc.StatusCode.UNIMPLEMENTED
            else:
                assert refused(outcome) is (permission_of(path(method)) == SIBLING)
    await server.stop(0)
    assert [who.permissions for who in seen] == [OF_A_KEY]
