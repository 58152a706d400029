"""A server with fake services behind the real interceptor, for tests of mesh.rpc."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.problems import Conflict, Problem, Unauthenticated
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.credentials import server_credentials, sibling_credentials
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door, current_caller
from mesh.tls.tls import Tls

KEY_ID = "6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11"


class FakeKeyServicer(keys_rpc.KeyServiceServicer):
    """Returns its caller, or raises `problem`."""

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
    """Has one of the methods. With `rest` the stream does not end, and awaits `rest` between responses."""

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
                response = events.WatchEventsResponse()
                response.change.sequence = sequence
                yield response
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
    # The addresses of the siblings' and of the clients' door.
    doors: tuple[str, str]
    verified: list[str] = field(default_factory=list)
    # The caller of the key "good", and the problem that the key leads to if there is one.
    known: Caller = field(default_factory=lambda: Caller.of_key("k1", "Ann"))
    refusal: Problem | None = None


@asynccontextmanager
async def open_harness(folder: Path, tls: Tls | None = None) -> AsyncIterator[Harness]:
    """A server with both fake services on the clients' and the siblings' door; with `tls`, the latter is a
    port with mutual TLS."""

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
    of_siblings, of_clients = (
        server_credentials(tls, door) if tls else None for door in (Door.SIBLINGS, Door.CLIENTS)
    )
    place = "127.0.0.1:0" if tls else f"unix:{folder}/s"
    private = await server.listen(place, of_siblings, door=Door.SIBLINGS)
    public = await server.listen("127.0.0.1:0", of_clients)
    await server.start()
    credentials = sibling_credentials(tls) if tls else None
    channels = Channels({}, {"store": private}, credentials)
    outside = (
        grpc.aio.secure_channel(public, credentials()) if credentials else grpc.aio.insecure_channel(public)
    )
    async with outside:
        yield (made := Harness(server, servicer, channels.to("store"), outside, watched, (private, public)))
    await channels.close()
    await server.stop(0)


async def wait_forever() -> None:
    await asyncio.Event().wait()
