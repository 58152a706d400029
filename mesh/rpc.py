"""gRPC, the same way everywhere: one server boundary, one client function, one map of errors."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mesh.config import split_address
from mesh.local_server import LocalServer
from mesh.permissions import HEALTH, REFLECTION, require_declared
from mesh.problems import DOMAIN, KINDS, TRANSPORT_KINDS, Conflict, Internal, Invalid, Problem
from mesh.security import Door, current_caller
from mesh.spans import calling
from mesh.telemetry import outgoing

log = structlog.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")
Servicer = TypeVar("Servicer")
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

API_KEY = "x-api-key"
# A call between siblings has either the first three of these, or the last.
CALLER_ID, CALLER_NAME = "x-lares-caller-id", "x-lares-caller-name-bin"
CALLER_PERMISSIONS = "x-lares-caller-permissions"
AS_ITSELF = "x-lares-as-itself"
DETAILS = "grpc-status-details-bin"
PORT_PATIENCE_SECONDS = 5.0
# A thousand pages of detections, which siblings ask for at once.
MESSAGE_BYTES = 64 * 2**20
# The largest that a client may say: DetectObjects with an image of 32 MiB.
CLIENT_BYTES = 32 * 2**20 + 64 * 2**10
# Streams included: each program that watches is one.
CLIENT_CALLS = 256

ANSWERS = health_pb2.HealthCheckResponse

RECEIVE = "grpc.max_receive_message_length"
OPTIONS = [
    (RECEIVE, MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # By its name a pause, in fact how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 10_000),
]


SENTENCES = {
    grpc.StatusCode.UNAVAILABLE: "a part of Lares cannot be reached now",
    grpc.StatusCode.CANCELLED: "a part of Lares ended this call",
    grpc.StatusCode.DEADLINE_EXCEEDED: "this took too long",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "this is too large, or too much is under way",
}


class Server:
    """This process's servicers, on any number of addresses, behind three doors. That of the clients has
    bounds. That of the siblings has none, so that Lares's own calls go on however many clients there are; the
    services of this process use it by `channel`, without an address. That of the operator leads to the keys
    alone. Add everything, then listen, then start."""

    def __init__(self, boundary: Callable[[Door], grpc.aio.ServerInterceptor]) -> None:
        """`boundary` makes the interceptor of a door: it is told which, and nothing else tells it."""
        self._doors = {
            Door.SIBLINGS: grpc.aio.server(interceptors=[boundary(Door.SIBLINGS)], options=OPTIONS),
            Door.CLIENTS: grpc.aio.server(
                interceptors=[boundary(Door.CLIENTS)],
                options=[*(dict(OPTIONS) | {RECEIVE: CLIENT_BYTES}).items()],
                maximum_concurrent_rpcs=CLIENT_CALLS,
            ),
            Door.OPERATOR: grpc.aio.server(interceptors=[boundary(Door.OPERATOR)], options=OPTIONS),
        }
        self._local = LocalServer([boundary(Door.SIBLINGS)], max_message_bytes=MESSAGE_BYTES)
        self._health = health_aio.HealthServicer()
        self._needs: dict[str, frozenset[str]] = {}
        for door in (Door.SIBLINGS, Door.CLIENTS):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._doors[door])

    def add(
        self,
        register: Callable[[Servicer, grpc.aio.Server], None],
        servicer: Servicer,
        name: str,
        *,
        needs: Collection[str] = (),
        operator: bool = False,
    ) -> None:
        """`register` is the generated add_XServicer_to_server, `name` the full name, `lares.store.v1.X`;
        `needs`: the parts of Mesh.checks without which it cannot serve. A service of an `internal` package is
        behind the siblings' door alone; with `operator`, a service is behind the operator's door, too. Raises
        Internal PERMISSION_NOT_DECLARED."""
        require_declared(name)
        register(servicer, self._local)
        register(servicer, self._doors[Door.SIBLINGS])
        if not _is_internal(name):
            register(servicer, self._doors[Door.CLIENTS])
        if operator:
            register(servicer, self._doors[Door.OPERATOR])
        self._needs[name] = frozenset(needs)

    def channel(self) -> grpc.aio.Channel:
        """To these servicers, for the services of this process. Good before the start, too."""
        return self._local.channel()

    def add_reflection(self) -> None:
        """Of what clients can call, and of nothing else."""
        from grpc_reflection.v1alpha import reflection

        names = [*filter(lambda name: not _is_internal(name), self._needs), HEALTH, REFLECTION]
        reflection.enable_server_reflection(names, self._doors[Door.CLIENTS], pool=_pool_of(names))

    async def listen(
        self,
        address: str,
        credentials: grpc.ServerCredentials | None = None,
        *,
        door: Door = Door.CLIENTS,
    ) -> str:
        """Binds `host:port` or `unix:path` and returns the address with the port in fact bound. Raises
        Conflict PORT_TAKEN when it is still taken after 5 s, Invalid BAD_ADDRESS where it never could."""
        server = self._doors[door]
        deadline = asyncio.get_running_loop().time() + PORT_PATIENCE_SECONDS
        while True:
            try:
                port = (
                    server.add_secure_port(address, credentials)
                    if credentials
                    else server.add_insecure_port(address)
                )
                return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
            except RuntimeError:
                # It does not say why.
                if why := _refusal(address):
                    raise Invalid(f"cannot listen on {address}: {why}", "BAD_ADDRESS") from None
                if asyncio.get_running_loop().time() > deadline:
                    raise Conflict(f"{address} is taken by another program", "PORT_TAKEN") from None
                await asyncio.sleep(0.2)

    async def start(self) -> None:
        """Nothing serves, as health has it, until `tell` says what does."""
        for name in ["", *self._needs]:
            await self._health.set(name, ANSWERS.NOT_SERVING)
        for door in (self._local, *self._doors.values()):
            await door.start()

    async def tell(self, missing: Collection[str]) -> None:
        """These parts are missing: health says so of the whole, and of the services that need one of them."""
        for name, needs in [("", frozenset(missing)), *self._needs.items()]:
            serving = needs.isdisjoint(missing)
            await self._health.set(name, ANSWERS.SERVING if serving else ANSWERS.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Refuses new calls, gives those under way `grace` seconds, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(*(door.stop(grace) for door in (self._local, *self._doors.values())))


def _is_internal(service: str) -> bool:
    return "internal" in service.split(".")


def _pool_of(services: Iterable[str]) -> DescriptorPool:
    """The files of these services and what they import: reflection gives away all that its pool holds."""
    every, known, pool = descriptor_pool.Default(), set[str](), DescriptorPool()

    def add(file: FileDescriptor) -> None:
        if file.name not in known:
            known.add(file.name)
            for imported in file.dependencies:
                add(imported)
            pool.AddSerializedFile(file.serialized_pb)

    for service in services:
        add(every.FindServiceByName(service).file)
    return pool


def _refusal(address: str) -> str:
    """Why nobody could ever listen there; empty where it is taken only."""
    if address.startswith("unix:"):
        return ""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except OSError as error:
        return "" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""


class Channels:
    """The way to each service: within this process where it is here, else to its peer address."""

    def __init__(
        self,
        local: Mapping[str, grpc.aio.Channel],
        peers: Mapping[str, str],
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """By service: `local` its channel, `peers` its target. `credentials` for peers (mutual TLS)."""
        self._local, self._peers, self._credentials = local, peers, credentials
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, service: str) -> grpc.aio.Channel:
        """Raises Invalid NO_PEER where the settings do not say where the service runs."""
        if service in self._local:
            return self._local[service]
        target = self._peers.get(service)
        if not target:
            raise Invalid(f"LARES_PEERS must say where {service} runs: {service}=host:port", "NO_PEER")
        if target not in self._open:
            self._open[target] = (
                grpc.aio.secure_channel(target, self._credentials, options=OPTIONS)
                if self._credentials
                else grpc.aio.insecure_channel(target, options=OPTIONS)
            )
        return self._open[target]

    async def close(self) -> None:
        for channel in {*self._local.values(), *self._open.values()}:
            await channel.close(grace=1.0)


async def call(
    method: Callable[..., Awaitable[Response]],
    request: object,
    *,
    timeout: float = 10.0,
    wait: bool = False,
    headers: Metadata | None = None,
) -> Response:
    """One unary call, with a deadline in seconds; raises the far side's Problem. `wait`: until the deadline
    for a server that is not up yet. `headers`: what a client sends. Without them it is a call to a sibling,
    and raises NoCaller where nobody has said for whom the task works."""
    with calling(request):
        sent = metadata() if headers is None else headers
        try:
            return await method(request, timeout=timeout, metadata=sent, wait_for_ready=wait)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error) from None


async def stream(
    method: Callable[..., Any],
    request: object,
    *,
    timeout: float | None = None,
    headers: Metadata | None = None,
) -> AsyncIterator[Any]:
    """The answers of one server-streaming call; raises the far side's Problem, cancels when left. `headers`
    as in `call`."""
    under_way = method(request, timeout=timeout, metadata=metadata() if headers is None else headers)
    try:
        async for response in under_way:
            yield response
    except grpc.aio.AioRpcError as error:
        raise problem_of(error) from None
    finally:
        under_way.cancel()


def metadata() -> Metadata:
    """What goes with every call to a sibling: the request's ids, and either the end caller or the word that
    the call is this service's own. Raises NoCaller."""
    who = current_caller()
    if who.kind == "sibling":
        return (*outgoing().items(), (AS_ITSELF, "1"))
    permissions = ",".join(str(permission) for permission in sorted(who.permissions))
    return (
        *outgoing().items(),
        (CALLER_ID, who.id),
        (CALLER_NAME, who.name.encode()),
        (CALLER_PERMISSIONS, permissions),
    )


def status_of(problem: Problem) -> Status:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=problem.reason, domain=DOMAIN, metadata=problem.metadata))
    return Status(code=problem.code.value[0], message=problem.message, details=[detail])


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """The Problem that the far side raised, from its code and reason. gRPC's own codes are mapped; what it
    says of them names sockets and peers, so that is for the log."""
    code = error.code()
    kind = KINDS.get(code) or TRANSPORT_KINDS.get(code, Internal)
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            status = Status.FromString(value)
            for detail in status.details:
                info = ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return kind(status.message, info.reason, **dict(info.metadata))
    log.info("a call failed on its way", code=code.name, details=error.details())
    return kind(SENTENCES.get(code, "a part of Lares did not answer as it should"), code.name)
