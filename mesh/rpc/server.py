"""The gRPC server of a process: its services behind three doors, and in the process itself."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mesh.config import split_address
from mesh.permissions import HEALTH, REFLECTION, require_declared
from mesh.ports import wait_until_free
from mesh.problems import Conflict
from mesh.rpc.in_process_server import InProcessServer
from mesh.rpc.protocol import CHANNEL_OPTIONS, MAX_RECEIVE, MESSAGE_BYTES
from mesh.security import Door

log = structlog.get_logger(__name__)

Servicer = TypeVar("Servicer")

# The largest that a client may say: DetectObjects with an image of 32 MiB.
CLIENT_BYTES = 32 * 2**20 + 64 * 2**10
# Streams included: each program that watches is one.
CLIENT_CALLS = 256

ANSWERS = health_pb2.HealthCheckResponse


class GrpcServer:
    """This process's servicers, on any number of addresses, behind three doors. That of the clients has
    bounds. That of the siblings has none, so that Lares's own calls go on however many clients there are; the
    services of this process use it by `channel`, without an address. That of the operator leads to the keys
    alone. Add everything, then listen, then start."""

    def __init__(self, boundary: Callable[[Door], grpc.aio.ServerInterceptor]) -> None:
        """`boundary` makes the interceptor of a door: it is told which, and nothing else tells it."""
        self._doors = {
            Door.SIBLINGS: grpc.aio.server(interceptors=[boundary(Door.SIBLINGS)], options=CHANNEL_OPTIONS),
            Door.CLIENTS: grpc.aio.server(
                interceptors=[boundary(Door.CLIENTS)],
                options=[*(dict(CHANNEL_OPTIONS) | {MAX_RECEIVE: CLIENT_BYTES}).items()],
                maximum_concurrent_rpcs=CLIENT_CALLS,
            ),
            Door.OPERATOR: grpc.aio.server(interceptors=[boundary(Door.OPERATOR)], options=CHANNEL_OPTIONS),
        }
        self._local = InProcessServer([boundary(Door.SIBLINGS)], max_message_bytes=MESSAGE_BYTES)
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
        """Listens on `host:port` or `unix:path` and returns the address, with the actual port in place of 0.

        Raises Conflict PORT_TAKEN if the port is still taken after 5 s, and Invalid BAD_ADDRESS if this
        machine cannot listen there.
        """
        server = self._doors[door]
        on_tcp = not address.startswith("unix:")
        if on_tcp:
            await wait_until_free(*split_address(address))
        try:
            if credentials:
                port = server.add_secure_port(address, credentials)
            else:
                port = server.add_insecure_port(address)
        except RuntimeError:  # without the reason
            raise Conflict(f"{address} is taken by another program", "PORT_TAKEN") from None
        return f"{address.rpartition(':')[0]}:{port}" if on_tcp else address

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
