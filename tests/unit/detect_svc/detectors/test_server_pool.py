"""Who is asked, who is left alone: with servers that do as they are told."""

import asyncio
from collections.abc import Callable

import pytest

from detect_svc.detectors import circuit_breaker, server_pool
from detect_svc.detectors.server_pool import ServerPool
from mesh.problems import Internal, Invalid, Problem, Unavailable
from tests.support.waiting import until

DOWN = Unavailable("down", "DETECTOR_AWAY")


class FakeServer:
    """Answers with its address, or fails, as told; holds its answers while `gate` is closed."""

    def __init__(self, address: str, limit: int = 4) -> None:
        self.address, self.limit = address, limit
        self.problem: Problem | None = None
        self.blind: Unavailable | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = self.looks = self.busy = self.busiest = 0
        self.watched = False
        self.lose: Callable[[], None] = lambda: None

    async def ask(self, request: str) -> str:
        self.asked += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self.gate.wait()
            if self.problem:
                raise self.problem
            return f"{request} by {self.address}"
        finally:
            self.busy -= 1

    async def look(self) -> int:
        self.looks += 1
        if self.blind:
            raise self.blind
        return self.limit

    async def watch(self, lost: Callable[[], None]) -> None:
        self.lose, self.watched = lost, True
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "SHORTEST_SECONDS", 0.001)
    monkeypatch.setattr(circuit_breaker, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(server_pool, "LOOK_SECONDS", 60.0)


def two() -> tuple[FakeServer, FakeServer, ServerPool[str, str]]:
    one, other = FakeServer("one"), FakeServer("other")
    return one, other, ServerPool([one, other], 90)


async def test_requests_go_to_the_least_busy_and_never_more_than_it_wants() -> None:
    one, other, servers = two()
    async with servers.kept():
        await asyncio.gather(*(servers.ask("warm") for _ in range(8)))
        for server in (one, other):
            server.gate.clear()
        asking = [asyncio.create_task(servers.ask(str(number))) for number in range(20)]
        await until(lambda: one.busy + other.busy == 8)
        assert (one.busy, other.busy) == (4, 4)
        one.gate.set()
        other.gate.set()
        answers = await asyncio.gather(*asking)
    assert sorted(answer.split()[0] for answer in answers) == sorted(map(str, range(20)))
    assert (one.busiest, other.busiest) == (4, 4)
    assert [place.in_flight for place in servers.places] == [0, 0]


async def test_who_is_held_up_gets_no_more() -> None:
    one, _, servers = two()
    async with servers.kept():
        await asyncio.gather(*(servers.ask("warm") for _ in range(8)))
        one.gate.clear()
        asking = [asyncio.create_task(servers.ask("x")) for _ in range(4)]
        await until(lambda: sum(task.done() for task in asking) == 3)
        assert one.busy == 1
        one.gate.set()
        await asyncio.gather(*asking)


async def test_one_that_looks_well_again_is_not_asked_twice_for_one_request() -> None:
    one, other, servers = two()
    async with servers.kept():
        await asyncio.gather(*(servers.ask("warm") for _ in range(8)))
        for server in (one, other):
            server.problem, server.asked = DOWN, 0
            server.gate.clear()
        asking = asyncio.create_task(servers.ask("x"))
        await until(lambda: one.busy + other.busy == 1)
        first, second = (one, other) if one.busy else (other, one)
        first.gate.set()
        await until(lambda: second.busy)
        await until(lambda: all(place.available for place in servers.places))
        second.gate.set()
        with pytest.raises(Unavailable):
            await asking
    assert (one.asked, other.asked) == (1, 1)


async def test_who_fails_is_left_alone_and_another_one_answers_at_once() -> None:
    one, _, servers = two()
    async with servers.kept():
        one.problem, one.blind = DOWN, DOWN
        answers = [await servers.ask("x") for _ in range(10)]
        assert set(answers) == {"x by other"}
        assert one.asked == 1
        assert [place.available for place in servers.places] == [False, True]
        one.problem = one.blind = None
        await until(lambda: servers.places[0].available)
        await asyncio.gather(*(servers.ask("x") for _ in range(8)))
        assert one.asked > 1


async def test_all_away_is_said_in_their_words_and_without_asking_them() -> None:
    one, other, servers = two()
    one.problem, other.problem = DOWN, Unavailable("full", "DETECTOR_AWAY")
    one.blind = other.blind = DOWN
    async with servers.kept():
        with pytest.raises(Unavailable, match="down; down"):
            servers.require()
        for _ in range(5):
            with pytest.raises(Unavailable):
                await servers.ask("x")
    assert (one.asked, other.asked) == (0, 0)


async def test_the_last_servers_failure_is_the_callers() -> None:
    one, other, servers = two()
    one.problem = other.problem = DOWN
    async with servers.kept():
        with pytest.raises(Unavailable, match="down"):
            await servers.ask("x")
        assert (one.asked, other.asked) == (1, 1)
        assert [place.failed for place in servers.places] == [1, 1]


async def test_after_a_failure_one_request_shows_whether_it_works() -> None:
    only = FakeServer("only")
    servers: ServerPool[str, str] = ServerPool([only], 90)
    async with servers.kept():
        await servers.ask("warm")
        only.problem = DOWN
        with pytest.raises(Unavailable):
            await servers.ask("x")
        only.problem = None
        await until(lambda: servers.places[0].available)
        only.gate.clear()
        only.busiest = 0
        asking = [asyncio.create_task(servers.ask("x")) for _ in range(4)]
        await until(lambda: only.busy)
        assert only.busiest == 1
        only.gate.set()
        await asyncio.gather(*asking)


async def test_a_request_that_is_at_fault_costs_the_server_nothing() -> None:
    one, other, servers = two()
    one.problem = other.problem = Invalid("too odd", "DETECTOR_REFUSED")
    async with servers.kept():
        with pytest.raises(Invalid):
            await servers.ask("x")
        assert one.asked + other.asked == 1
        assert all(place.available for place in servers.places)


async def test_nobody_is_at_fault_where_another_model_took_the_place() -> None:
    one, other, servers = two()
    async with servers.kept():
        one.problem = other.problem = Invalid("wrong shape", "DETECTOR_REFUSED")
        one.blind = other.blind = Unavailable("changed", "MODEL_CHANGED")
        with pytest.raises(Unavailable, match="changed"):
            await servers.ask("x")
        assert not any(place.available for place in servers.places)


async def test_nonsense_is_the_callers_and_no_reason_to_ask_another() -> None:
    one, other, servers = two()
    one.problem = other.problem = Internal("nonsense", "DETECTOR_NONSENSE")
    async with servers.kept():
        with pytest.raises(Internal):
            await servers.ask("x")
    assert one.asked + other.asked == 1


async def test_a_connection_that_ends_is_looked_at_before_it_is_asked_again() -> None:
    only = FakeServer("only")
    servers: ServerPool[str, str] = ServerPool([only], 90)
    async with servers.kept():
        await servers.ask("x")
        await until(lambda: only.watched)
        looks = only.looks
        only.blind = Unavailable("another model", "MODEL_CHANGED")
        only.lose()
        with pytest.raises(Unavailable, match="connection ended"):
            servers.require()
        await until(lambda: only.looks > looks)
        with pytest.raises(Unavailable, match="another model"):
            servers.require()


async def test_a_caller_that_leaves_gives_its_room_back() -> None:
    only = FakeServer("only", limit=1)
    servers: ServerPool[str, str] = ServerPool([only], 90)
    async with servers.kept():
        only.gate.clear()
        leaving, waiting = (asyncio.create_task(servers.ask(name)) for name in ("a", "b"))
        await until(lambda: only.busy)
        leaving.cancel()
        await asyncio.wait([leaving])
        only.gate.set()
        assert await waiting == "b by only"
        assert servers.places[0].available
        assert servers.places[0].in_flight == 0


async def test_waiting_for_room_ends() -> None:
    only = FakeServer("only", limit=1)
    servers: ServerPool[str, str] = ServerPool([only], 0.05)
    async with servers.kept():
        only.gate.clear()
        first = asyncio.create_task(servers.ask("a"))
        await until(lambda: only.busy)
        with pytest.raises(Unavailable, match="busy"):
            await servers.ask("b")
        only.gate.set()
        await first


async def test_who_waits_for_room_learns_that_the_server_went_away() -> None:
    only = FakeServer("only", limit=1)
    servers: ServerPool[str, str] = ServerPool([only], 90)
    async with servers.kept():
        only.gate.clear()
        asking = [asyncio.create_task(servers.ask(name)) for name in ("a", "b", "c")]
        await until(lambda: only.busy)
        only.problem = only.blind = DOWN
        only.gate.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert only.asked == 1


async def test_a_look_that_breaks_is_a_server_that_is_away() -> None:
    only = FakeServer("only")
    servers: ServerPool[str, str] = ServerPool([only], 90)
    async with servers.kept():
        await until(lambda: only.watched)
        servers.places[0].server.look = broken  # type: ignore[method-assign]
        only.lose()
        await until(lambda: "ZeroDivisionError" in servers.places[0].why.message)
        assert not servers.places[0].available
        del servers.places[0].server.look
        await until(lambda: servers.places[0].available)


async def broken() -> int:
    return 1 // 0
