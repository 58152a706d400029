"""The gRPC server of a process."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2_grpc

from mesh.addresses import split_address
from mesh.permissions import HEALTH, REFLECTION, require_declared
from mesh.ports import wait_until_free
from mesh.problems import Conflict
from mesh.rpc.health import HealthServicer, Missing
from mesh.rpc.in_process_server import InProcessServer
from mesh.rpc.protocol import MAX_RECEIVE, MESSAGE_BYTES, SERVER_OPTIONS, sibling_health
from mesh.security import Door

log = structlog.get_logger(__name__)

Servicer = TypeVar("Servicer")

# The largest message from a client is DetectObjects with an image of 32 MiB.
CLIENT_BYTES = 32 * 2**20 + 64 * 2**10
# Includes streams: each program that watches events holds one.
CLIENT_CALLS = 256
# Of those, how many may watch health, which needs no key.
CLIENT_WATCHES = 64
# Then a connection ends when its calls have, and its client looks its target up again: that is how clients
# find replicas that were added. Streams are not cut off.
CONNECTION_SECONDS = 60


class DoorInterceptor(grpc.aio.ServerInterceptor):
    """The interceptor behind one door."""

    def end_streams(self) -> None:
        """Ends the calls that would last for ever, with a problem on which clients call again."""
        raise NotImplementedError


class GrpcServer:
    """Serves this process's servicers through three doors, each with any number of addresses.

    The clients' door limits the size of messages and the number of calls. The siblings' door does not limit
    the number, so that calls between services continue however many clients there are; services of this
    process reach it by `channel`, without an address. The operator's door serves API keys only.

    Add all servicers, then listen, then start.
    """

    def __init__(self, interceptor: Callable[[Door], DoorInterceptor]) -> None:
        """`interceptor` makes the interceptor of a door."""
        behind, local = {door: interceptor(door) for door in Door}, interceptor(Door.SIBLINGS)
        self._at_stop = [each.end_streams for each in (local, *behind.values())]
        options = [*SERVER_OPTIONS, ("grpc.max_connection_age_ms", CONNECTION_SECONDS * 1000)]
        self._doors = {
            Door.SIBLINGS: grpc.aio.server(interceptors=[behind[Door.SIBLINGS]], options=options),
            Door.CLIENTS: grpc.aio.server(
                interceptors=[behind[Door.CLIENTS]],
                options=[*(dict(options) | {MAX_RECEIVE: CLIENT_BYTES}).items()],
                maximum_concurrent_rpcs=CLIENT_CALLS,
            ),
            Door.OPERATOR: grpc.aio.server(interceptors=[behind[Door.OPERATOR]], options=options),
        }
        self._local = InProcessServer([local], max_message_bytes=MESSAGE_BYTES)
        self._needs: dict[str, frozenset[str]] = {}
        self._health = {
            Door.SIBLINGS: HealthServicer(self._needs),
            Door.CLIENTS: HealthServicer(self._needs, CLIENT_WATCHES),
        }
        for door, health in self._health.items():
            health_pb2_grpc.add_HealthServicer_to_server(health, self._doors[door])

    def add(
        self,
        register: Callable[[Servicer, grpc.aio.Server], None],
        servicer: Servicer,
        name: str,
        *,
        needs: Collection[str] = (),
        operator: bool = False,
    ) -> None:
        """Adds a servicer to the siblings' door, and to the clients' door unless its package is `internal`.

        `register` is the generated add_XServicer_to_server, and `name` the service's full name, for example
        `lares.store.v1.X`. `needs` are the parts of Mesh.checks without which it cannot serve; what all
        servicers of `lares.store` need, siblings need to call any of them. With `operator` it is added to the
        operator's door, too. Raises Internal PERMISSION_NOT_DECLARED.
        """
        require_declared(name)
        register(servicer, self._local)
        register(servicer, self._doors[Door.SIBLINGS])
        if not _is_internal(name):
            register(servicer, self._doors[Door.CLIENTS])
        if operator:
            register(servicer, self._doors[Door.OPERATOR])
        self._needs[name] = frozenset(needs)
        target = sibling_health(name.split(".")[1])
        self._needs[target] = self._needs.get(target, self._needs[name]) & self._needs[name]

    def channel(self) -> grpc.aio.Channel:
        """A channel to these servicers within this process. It can be opened before the start."""
        return self._local.channel()

    def add_reflection(self) -> None:
        """Adds reflection of the services that clients can call."""
        from grpc_reflection.v1alpha import reflection

        names = [*filter(_is_public, self._needs), HEALTH, REFLECTION]
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

        def add_port() -> int:
            if credentials:
                return server.add_secure_port(address, credentials)
            return server.add_insecure_port(address)

        try:
            try:
                port = add_port()
            except RuntimeError:  # which does not say why
                if not on_tcp:
                    raise
                # Not before: gRPC also listens on `[::]` where there is no IPv6.
                await wait_until_free(*split_address(address))
                port = add_port()
        except RuntimeError:
            raise Conflict(f"{address} is taken by another program", "PORT_TAKEN") from None
        return f"{address.rpartition(':')[0]}:{port}" if on_tcp else address

    async def start(self) -> None:
        """Starts serving. Health reports the server as a whole as NOT_SERVING until `report_health` is
        called."""
        for door in (self._local, *self._doors.values()):
            await door.start()

    def report_health(self, missing: Missing) -> None:
        """Has health report as NOT_SERVING the services that need a part that `missing` finds missing, and
        the server as a whole if any part is missing. `missing` is called when somebody asks."""
        for health in self._health.values():
            health.report(missing)

    def at_stop(self, end: Callable[[], None]) -> None:
        """Calls `end` when the server stops: it ends what calls wait for."""
        self._at_stop.append(end)

    def drain(self) -> None:
        """Has health report everything as NOT_SERVING, so that clients turn to other replicas. Calls are
        served as before."""
        for health in self._health.values():
            health.drain()

    async def stop(self, grace: float) -> None:
        """Refuses new calls and ends streams of responses with UNAVAILABLE STOPPING, on which clients call
        again. Gives running calls `grace` seconds, then cancels them."""
        for health in self._health.values():
            health.stop()
        for end in self._at_stop:
            end()
        await asyncio.gather(*(door.stop(grace) for door in (self._local, *self._doors.values())))


def _is_internal(service: str) -> bool:
    return "internal" in service.split(".")


def _is_public(name: str) -> bool:
    """Whether this name that health knows is a service on the clients' door."""
    return name.count(".") > 1 and not _is_internal(name)


def _pool_of(services: Iterable[str]) -> DescriptorPool:
    """The files of these services and their imports. Reflection exposes everything in its pool, so it does
    not receive the default one."""
    default, known, pool = descriptor_pool.Default(), set[str](), DescriptorPool()

    def add(file: FileDescriptor) -> None:
        if file.name not in known:
            known.add(file.name)
            for imported in file.dependencies:
                add(imported)
            pool.AddSerializedFile(file.serialized_pb)

    for service in services:
        add(default.FindServiceByName(service).file)
    return pool
