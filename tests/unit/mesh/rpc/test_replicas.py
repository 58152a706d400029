"""Which of several replicas gets a call, what is called again, and how a replica leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from mesh.problems import Conflict, Problem, Unavailable
from mesh.rpc import Channels, GrpcServer, call, stream
from mesh.rpc.interceptor import CallInterceptor
from mesh.rpc.protocol import CHANNEL_OPTIONS, SERVER_OPTIONS
from mesh.rpc.replicas import ask_each
from mesh.rpc.targets import addresses_of
from mesh.security import Door
from tests.support.certificates import write_certificate
from tests.support.waiting import until, until_async

EVENT = "c12c4c97-7370-5423-8bbe-a655e6d8d585"
pytestmark = pytest.mark.usefixtures("calling_as_itself")


class Events(events_rpc.EventServiceServicer):
    """Counts its calls. Raises the `problems` one after the other, then answers once `may_answer` is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.problems: list[Problem] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def _answer(self) -> None:
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)
        await self.may_answer.wait()

    async def GetStoreStatus(
        self, request: events.GetStoreStatusRequest, context: object
    ) -> events.GetStoreStatusResponse:
        await self._answer()
        return events.GetStoreStatusResponse()

    async def ReassessEvent(
        self, request: events.ReassessEventRequest, context: object
    ) -> events.ReassessEventResponse:
        await self._answer()
        return events.ReassessEventResponse()

    async def WatchEvents(
        self, request: events.WatchEventsRequest, context: object
    ) -> AsyncIterator[events.WatchEventsResponse]:
        yield events.WatchEventsResponse()
        await asyncio.Event().wait()


@dataclass
class Replica:
    server: GrpcServer
    events: Events
    address: str


class Replicas:
    """Replicas of a store, and a client of them."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.all: list[Replica] = []

    async def start(
        self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
    ) -> Replica:
        server, servicer = GrpcServer(CallInterceptor), Events()  # type: ignore[abstract]
        server.add(
            events_rpc.add_EventServiceServicer_to_server,
            servicer,
            "lares.store.v1.EventService",
            needs=["postgres"],
        )
        address = await server.listen(address, credentials, door=Door.SIBLINGS)
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        self.all.append(Replica(server, servicer, address))
        return self.all[-1]

    def client(
        self, target: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> "events_rpc.EventServiceAsyncStub":
        target = target or "ipv4:" + ",".join(replica.address for replica in self.all)
        channels = Channels({}, {"store": target}, (lambda: credentials) if credentials else None)
        self._stack.push_async_callback(channels.close)
        return events_rpc.EventServiceStub(channels.to("store"))

    @property
    def calls(self) -> list[int]:
        return [replica.events.calls for replica in self.all]

    def forget(self) -> None:
        for replica in self.all:
            replica.events.calls = 0


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        made = Replicas(stack, tmp_path)
        await made.start()
        await made.start()
        yield made


async def ask(client: "events_rpc.EventServiceAsyncStub", times: int = 1) -> None:
    for _ in range(times):
        await call(client.GetStoreStatus, events.GetStoreStatusRequest(), timeout=90)


async def until_both(replicas: Replicas, client: "events_rpc.EventServiceAsyncStub") -> None:
    """Waits until both replicas get calls: a client begins with the first connection that it has."""

    async def both() -> bool:
        await ask(client)
        return all(replicas.calls)

    await until_async(both)
    replicas.forget()


async def test_replicas_take_turns(replicas: Replicas) -> None:
    client = replicas.client()
    await until_both(replicas, client)
    await ask(client, 20)
    assert replicas.calls == [10, 10]


async def test_a_replica_that_lacks_what_its_calls_need_gets_none(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.rpc.health.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("mesh.rpc.health.WATCH_SECONDS", 0.01)
    missing: set[str] = set()

    async def find(parts: object) -> set[str]:
        assert parts == {"postgres"}  # Kafka, for example, is not needed to answer
        return missing

    replicas.all[0].server.report_health(find)
    client = replicas.client()
    await until_both(replicas, client)
    missing.add("postgres")

    async def only_the_other() -> bool:
        replicas.forget()
        await ask(client, 10)
        return replicas.calls == [0, 10]

    await until_async(only_the_other)
    missing.clear()
    await until_both(replicas, client)


async def test_a_read_is_made_again_and_a_change_is_not(replicas: Replicas) -> None:
    client = replicas.client()
    await until_both(replicas, client)
    for replica in replicas.all:
        replica.events.problems = [Unavailable("the database is away", "AWAY")]
    await ask(client)
    assert sum(replicas.calls) == 3
    replicas.forget()
    for replica in replicas.all:
        replica.events.problems = [Unavailable("the database is away", "AWAY")]
    with pytest.raises(Unavailable) as refused:
        await call(client.ReassessEvent, events.ReassessEventRequest(event_id=EVENT), timeout=90)
    assert (refused.value.reason, sum(replicas.calls)) == ("AWAY", 1)


async def test_other_problems_are_final_and_retries_end(replicas: Replicas) -> None:
    client = replicas.client()
    await until_both(replicas, client)
    for problem, made in ((Conflict("no", "NO"), 1), (Unavailable("no", "AWAY"), 4)):
        replicas.forget()
        for replica in replicas.all:
            replica.events.problems = [problem] * 9
        with pytest.raises(type(problem)) as refused:
            await ask(client)
        assert (refused.value.reason, sum(replicas.calls)) == (problem.reason, made)


async def test_a_replica_that_drains_still_answers_and_gets_no_new_calls(replicas: Replicas) -> None:
    client = replicas.client()
    await until_both(replicas, client)
    leaving = replicas.all[0]
    for replica in replicas.all:
        replica.events.may_answer.clear()
    waiting = [asyncio.create_task(ask(client)) for _ in range(6)]
    await until(lambda: replicas.calls == [3, 3])
    in_flight = [replica.events.may_answer for replica in replicas.all]
    for replica in replicas.all:
        replica.events.may_answer = asyncio.Event()
        replica.events.may_answer.set()
    leaving.server.drain()

    async def only_the_other() -> bool:
        replicas.forget()
        await ask(client, 4)
        return replicas.calls == [0, 4]

    await until_async(only_the_other)
    stopping = asyncio.create_task(leaving.server.stop(60))
    await ask(client, 10)
    assert not any(task.done() for task in waiting)
    for answers in in_flight:
        answers.set()
    await asyncio.gather(*waiting)  # what was in flight has its answer
    await stopping


async def test_a_stream_ends_with_a_reason_to_call_again(replicas: Replicas) -> None:
    client = replicas.client(replicas.all[0].address)
    responses = stream(client.WatchEvents, events.WatchEventsRequest())
    await anext(responses)
    stopping = asyncio.create_task(replicas.all[0].server.stop(60))
    with pytest.raises(Unavailable) as ended:
        await anext(responses)
    assert ended.value.reason == "STOPPING"
    await stopping


async def test_several_addresses_share_the_name_of_their_service_in_certificates(tmp_path: Path) -> None:
    files = {name: path.read_bytes() for name, path in write_certificate(tmp_path).items()}
    server = grpc.ssl_server_credentials([(files["tls_key"], files["tls_cert"])])
    trusting = grpc.ssl_channel_credentials(files["tls_ca"])
    async with AsyncExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        await replicas.start(credentials=server)
        await replicas.start(credentials=server)
        client = replicas.client(credentials=trusting)
        await until_both(replicas, client)


async def test_so_do_single_replicas(tmp_path: Path) -> None:
    files = {name: path.read_bytes() for name, path in write_certificate(tmp_path).items()}
    server = grpc.ssl_server_credentials([(files["tls_key"], files["tls_cert"])])
    trusting = grpc.ssl_channel_credentials(files["tls_ca"])
    async with AsyncExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        addresses = [(await replicas.start(host, server)).address for host in ("127.0.0.2:0", "127.0.0.3:0")]
        channels = Channels({}, {"store": f"ipv4:{','.join(addresses)}"}, lambda: trusting)
        stack.push_async_callback(channels.close)
        await ask_all(await channels.replicas("store"))
        assert replicas.calls == [1, 1]


@pytest.fixture
def found(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What looking up a name finds: each replica, until it is removed here."""
    found = {f"ipv4:{replica.address}": "" for replica in replicas.all}

    async def look_up(_: str) -> dict[str, str]:
        return dict(found)

    monkeypatch.setattr("mesh.rpc.client.addresses_of", look_up)
    return found


async def test_channels_to_replicas_that_are_gone_are_closed(
    replicas: Replicas, found: dict[str, str]
) -> None:
    channels = Channels({}, {"store": "dns:///store:1"})
    try:
        first, second = await channels.replicas("store")
        await ask_all([first, second])
        found.pop(f"ipv4:{replicas.all[0].address}")
        assert await channels.replicas("store") == [second]
        await until(lambda: first.get_state() is grpc.ChannelConnectivity.SHUTDOWN)
        found.clear()
        found["dns:///store:1"] = ""  # the name server is away: who is known stays known
        assert await channels.replicas("store") == [second]
        await ask_all([second])
    finally:
        await channels.close()


@pytest.mark.parametrize("late", [False, True])
async def test_a_call_to_a_replica_that_is_gone_delays_nobody_and_may_end(
    replicas: Replicas, found: dict[str, str], late: bool
) -> None:
    """Others are told at once who is left. Who waits for it gets its answer, or those of the others."""
    channels = Channels({}, {"store": "dns:///store:1"})
    try:
        both = await channels.replicas("store")
        replicas.all[0].events.may_answer.clear()
        asked = asyncio.create_task(
            ask_each(
                both,
                lambda channel: events_rpc.EventServiceStub(channel).GetStoreStatus,
                events.GetStoreStatusRequest(),
                timeout=3,
            )
        )
        await until(lambda: replicas.calls == [1, 1])
        found.pop(f"ipv4:{replicas.all[0].address}")
        assert await channels.replicas("store") == both[1:]
        assert both[0].get_state() is not grpc.ChannelConnectivity.SHUTDOWN
        await asyncio.sleep(0.1)  # a channel that is closed too early ends the call by now
        if late:
            replicas.all[0].events.may_answer.set()
        assert len(await asked) == 1 + late
    finally:
        await channels.close()


async def test_a_channel_that_is_closed_does_not_cancel_those_who_call(replicas: Replicas) -> None:
    channels = Channels({}, {"store": replicas.all[0].address})
    client = events_rpc.EventServiceStub(channels.to("store"))
    replicas.all[0].events.may_answer.clear()
    responses = stream(client.WatchEvents, events.WatchEventsRequest())
    await anext(responses)
    calling = [
        asyncio.create_task(call(client.GetStoreStatus, events.GetStoreStatusRequest(), timeout=90)),
        asyncio.create_task(anext(responses)),  # type: ignore[arg-type]
    ]
    await until(lambda: replicas.calls[0])
    await channels.to("store").close(grace=0.01)
    for each in calling:
        with pytest.raises(Unavailable) as ended:
            await each
        assert ended.value.reason == "CANCELLED"
    await channels.close()


async def test_a_name_server_that_is_silent_is_waited_for_by_one(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up, answer = list[str](), asyncio.Event()
    all_targets = {f"ipv4:{replica.address}": "" for replica in replicas.all}

    async def look_up(target: str) -> dict[str, str]:
        looked_up.append(target)
        await answer.wait()
        return all_targets

    monkeypatch.setattr("mesh.rpc.client.addresses_of", look_up)
    monkeypatch.setattr("mesh.rpc.client.LOOK_UP_SECONDS", 0.01)
    channels = Channels({}, {"store": "dns:///store:1"})
    try:
        (to_all,) = await channels.replicas("store")
        assert await channels.replicas("store") == [to_all]
        answer.set()
        monkeypatch.setattr("mesh.rpc.client.LOOK_UP_SECONDS", 90)
        single = await channels.replicas("store")
        assert len(single) == len(replicas.all)
        assert len(looked_up) == 1
        answer.clear()
        monkeypatch.setattr("mesh.rpc.client.LOOK_UP_SECONDS", 0.01)
        for _ in range(5):
            assert await channels.replicas("store") == single  # who is known stays known
        assert len(looked_up) == 2
    finally:
        await channels.close()


async def ask_all(channels: list[grpc.aio.Channel]) -> None:
    answers = await ask_each(
        channels,
        lambda channel: events_rpc.EventServiceStub(channel).GetStoreStatus,
        events.GetStoreStatusRequest(),
        timeout=90,
    )
    assert len(answers) == len(channels)


class Way:
    """A way to a replica. Once it is silent nothing comes through, and nobody is told of that."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._to, self._open = (host, int(port)), asyncio.Event()
        self._open.set()
        self._tasks = set[asyncio.Task[None]]()

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def fall_silent(self) -> None:
        self._open.clear()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._to)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink)))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            sink.write(data)
        sink.close()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_calls_that_wait_for_a_replica_that_fell_silent_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was stopped, or whose machine or network is gone: pings find out."""
    quick = {
        "grpc.keepalive_time_ms": 300,
        "grpc.keepalive_timeout_ms": 1000,
        "grpc.http2.ping_timeout_ms": 1000,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 1,
    }
    for side, options in (("client.CHANNEL", CHANNEL_OPTIONS), ("server.SERVER", SERVER_OPTIONS)):
        changed = [(name, quick.get(name, value)) for name, value in options]
        changed.append(("grpc.http2.max_ping_strikes", 0))
        monkeypatch.setattr(f"mesh.rpc.{side}_OPTIONS", changed)
    async with AsyncExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        way = Way((await replicas.start()).address)
        stack.push_async_callback(way.close)
        client = replicas.client(f"ipv4:{await way.listen()},{(await replicas.start()).address}")
        await until_both(replicas, client)
        way.fall_silent()
        await ask(client, 4)
        assert replicas.calls == [0, 4]


async def test_each_replica_can_be_asked(replicas: Replicas) -> None:
    target = "ipv4:" + ",".join(replica.address for replica in replicas.all)
    channels = Channels({}, {"store": target})
    try:
        for _ in range(3):
            found = await channels.replicas("store")
            assert len(found) == 2
            await ask_each(
                found,
                lambda channel: events_rpc.EventServiceStub(channel).GetStoreStatus,
                events.GetStoreStatusRequest(),
                timeout=90,
            )
        assert replicas.calls == [3, 3]
    finally:
        await channels.close()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("ipv4:10.0.0.1:1,10.0.0.2:2", {"ipv4:10.0.0.1:1": "", "ipv4:10.0.0.2:2": ""}),
        ("ipv6:[::1]:1", {"ipv6:[::1]:1": ""}),
        ("dns:///127.0.0.1:5", {"ipv4:127.0.0.1:5": ""}),
        ("unix:/run/a", {"unix:/run/a": ""}),
        ("dns://10.0.0.10/store:5", {"dns://10.0.0.10/store:5": ""}),
        ("dns:///nowhere.invalid:5", {"dns:///nowhere.invalid:5": ""}),
    ],
)
async def test_the_replicas_behind_a_target(target: str, expected: dict[str, str]) -> None:
    assert await addresses_of(target) == expected


async def test_a_name_that_stands_for_replicas_is_the_name_in_their_certificates() -> None:
    found = await addresses_of("dns:///localhost:5")
    assert found["ipv4:127.0.0.1:5"] == "localhost"


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address with `addresses`, and others with none."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        question, kind = data[12:end], int.from_bytes(data[end - 4 : end - 2])
        found = self.addresses if kind == 1 else []
        records = b"".join(
            b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + ip_address(address).packed for address in found
        )
        header = data[:2] + b"\x81\x80\0\x01" + len(found).to_bytes(2) + b"\0\0\0\0"
        self.transport.sendto(header + question + records, addr)


async def test_a_new_replica_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a connection has reached its age, the client looks the name up again."""
    monkeypatch.setattr("mesh.rpc.server.CONNECTION_SECONDS", 1)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        replicas = Replicas(stack, tmp_path)
        first = await replicas.start()
        port = first.address.rpartition(":")[2]
        await replicas.start(f"127.0.0.2:{port}")
        transport, names = await loop.create_datagram_endpoint(
            lambda: NameServer(["127.0.0.1"]), ("127.0.0.1", 0)
        )
        stack.callback(transport.close)
        server = transport.get_extra_info("sockname")
        client = replicas.client(f"dns://127.0.0.1:{server[1]}/store.lares.test:{port}")
        await ask(client, 10)
        assert replicas.calls == [10, 0]
        watching = stream(client.WatchEvents, events.WatchEventsRequest())
        await anext(watching)
        following = asyncio.ensure_future(anext(watching))
        names.addresses.append("127.0.0.2")
        await until_both(replicas, client)  # without an error
        assert not following.done()  # its connection ends when it does
        following.cancel()
