"""gRPC, the same way everywhere: one server boundary, one client function, one map of errors."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mesh.config import split_address
from mesh.problems import DOMAIN, KINDS, TRANSPORT_KINDS, Conflict, Internal, Invalid, Problem
from mesh.security import Caller, caller
from mesh.spans import calling
from mesh.telemetry import outgoing

log = structlog.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")
Servicer = TypeVar("Servicer")

CALLER_ID, CALLER_NAME = "x-lares-caller-id", "x-lares-caller-name-bin"
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
    """This process's servicers, on any number of addresses, behind two doors. That of the clients has bounds;
    that of the siblings has none, so that Lares's own calls go on however many clients there are. Add
    everything, then listen, then start."""

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        doorstep: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """`doorstep`: what clients meet before the other interceptors, siblings never."""
        self._siblings = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        self._clients = grpc.aio.server(
            interceptors=[*doorstep, *interceptors],
            options=[*(dict(OPTIONS) | {RECEIVE: CLIENT_BYTES}).items()],
            maximum_concurrent_rpcs=CLIENT_CALLS,
        )
        self._doors = (self._siblings, self._clients)
        self._health = health_aio.HealthServicer()
        self._needs: dict[str, frozenset[str]] = {}
        for door in self._doors:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, door)

    def add(
        self,
        register: Callable[[Servicer, grpc.aio.Server], None],
        servicer: Servicer,
        name: str,
        *,
        needs: Collection[str] = (),
    ) -> None:
        """`register` is the generated add_XServicer_to_server, `name` the full name, `lares.store.v1.X`;
        `needs`: the parts of Mesh.checks without which it cannot serve."""
        for door in self._doors:
            register(servicer, door)
        self._needs[name] = frozenset(needs)

    def add_reflection(self) -> None:
        from grpc_reflection.v1alpha import reflection

        names = [*self._needs, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._clients)

    async def listen(
        self, address: str, credentials: grpc.ServerCredentials | None = None, *, siblings: bool = False
    ) -> str:
        """Binds `host:port`, or `unix:path`, which is always the siblings', and returns the address with the
        port in fact bound. Raises Conflict PORT_TAKEN when it is still taken after 5 s, Invalid BAD_ADDRESS
        where it never could."""
        door = self._siblings if siblings or address.startswith("unix:") else self._clients
        deadline = asyncio.get_running_loop().time() + PORT_PATIENCE_SECONDS
        while True:
            try:
                port = (
                    door.add_secure_port(address, credentials)
                    if credentials
                    else door.add_insecure_port(address)
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
        for door in self._doors:
            await door.start()

    async def tell(self, missing: Collection[str]) -> None:
        """These parts are missing: health says so of the whole, and of the services that need one of them."""
        for name, needs in [("", frozenset(missing)), *self._needs.items()]:
            serving = needs.isdisjoint(missing)
            await self._health.set(name, ANSWERS.SERVING if serving else ANSWERS.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Refuses new calls, gives those under way `grace` seconds, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(*(door.stop(grace) for door in self._doors))


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
    """The way to each service: a private socket where it is in this process, else its peer address."""

    def __init__(
        self, local: dict[str, str], peers: dict[str, str], credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """`local` and `peers`: service -> target; `credentials` for peers (mutual TLS)."""
        self._local, self._peers, self._credentials = local, peers, credentials
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, service: str) -> grpc.aio.Channel:
        """Raises Invalid NO_PEER where the settings do not say where the service runs."""
        target = self._local.get(service) or self._peers.get(service)
        if not target:
            raise Invalid(f"LARES_PEERS must say where {service} runs: {service}=host:port", "NO_PEER")
        if target not in self._open:
            secure = service not in self._local and self._credentials is not None
            self._open[target] = (
                grpc.aio.secure_channel(target, self._credentials, options=OPTIONS)
                if secure and self._credentials
                else grpc.aio.insecure_channel(target, options=OPTIONS)
            )
        return self._open[target]

    async def close(self) -> None:
        for channel in self._open.values():
            await channel.close(grace=1.0)


async def call(
    method: Callable[..., Awaitable[Response]],
    request: object,
    *,
    timeout: float = 10.0,
    wait: bool = False,
) -> Response:
    """One unary call: a deadline in seconds, the request's ids, the end caller; raises the far side's
    Problem. `wait`: until the deadline for a server that is not up yet."""
    with calling(request):
        try:
            return await method(request, timeout=timeout, metadata=metadata(), wait_for_ready=wait)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error) from None


async def stream(
    method: Callable[..., Any], request: object, *, timeout: float | None = None
) -> AsyncIterator[Any]:
    """The answers of one server-streaming call; raises the far side's Problem, cancels when left."""
    under_way = method(request, timeout=timeout, metadata=metadata())
    try:
        async for response in under_way:
            yield response
    except grpc.aio.AioRpcError as error:
        raise problem_of(error) from None
    finally:
        under_way.cancel()


def metadata() -> tuple[tuple[str, str | bytes], ...]:
    """What goes with every call to a sibling."""
    current: Caller = caller.get()
    who: list[tuple[str, str | bytes]] = []
    if current.kind == "key":
        who = [(CALLER_ID, current.id), (CALLER_NAME, current.name.encode())]
    return (*outgoing().items(), *who)


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
