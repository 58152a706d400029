"""Which server gets a request, and which gets none for a while."""

import asyncio
from collections.abc import Callable

import pytest

from detect_svc.detectors import server_pool
from detect_svc.detectors.server_pool import ServerPool
from mesh.problems import Internal, Invalid, Problem, Unavailable
from mesh.retry import Backoff
from tests.support.waiting import until

DOWN = Unavailable("down", "DETECTOR_AWAY")


class FakeServer:
    """Answers with its address, or raises `problem`; holds its answers while `gate` is closed. Its probe
    raises `probe_problem`."""

    def __init__(self, address: str, limit: int = 4) -> None:
        self.address, self.limit = address, limit
        self.problem: Problem | None = None
        self.probe_problem: Unavailable | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.requests = self.probes = self.busy = self.busiest = 0
        self.watched = False
        self.lose_connection: Callable[[], None] = lambda: None

    async def infer(self, request: str) -> str:
        self.requests += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self.gate.wait()
            if self.problem:
                raise self.problem
            return f"{request} by {self.address}"
        finally:
            self.busy -= 1

    async def probe(self) -> int:
        self.probes += 1
        if self.probe_problem:
            raise self.probe_problem
        return self.limit

    async def watch_connection(self, on_lost: Callable[[], None]) -> None:
        self.lose_connection, self.watched = on_lost, True
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_pool, "BACKOFF", Backoff(0.001, 0.01))
    monkeypatch.setattr(server_pool, "PROBE_SECONDS", 60.0)


def two_servers() -> tuple[FakeServer, FakeServer, ServerPool[str, str]]:
    one, other = FakeServer("one"), FakeServer("other")
    return one, other, ServerPool([one, other], 90)


async def test_requests_go_to_the_least_busy_server_up_to_its_limit() -> None:
    one, other, pool = two_servers()
    async with pool.running():
        await asyncio.gather(*(pool.infer("warm") for _ in range(8)))
        for server in (one, other):
            server.gate.clear()
        requests = [asyncio.create_task(pool.infer(str(number))) for number in range(20)]
        await until(lambda: one.busy + other.busy == 8)
        assert (one.busy, other.busy) == (4, 4)
        one.gate.set()
        other.gate.set()
        answers = await asyncio.gather(*requests)
    assert sorted(answer.split()[0] for answer in answers) == sorted(map(str, range(20)))
    assert (one.busiest, other.busiest) == (4, 4)
    assert [server.in_flight for server in pool.servers] == [0, 0]


async def test_a_server_that_is_slow_gets_no_more_requests() -> None:
    one, _, pool = two_servers()
    async with pool.running():
        await asyncio.gather(*(pool.infer("warm") for _ in range(8)))
        one.gate.clear()
        requests = [asyncio.create_task(pool.infer("x")) for _ in range(4)]
        await until(lambda: sum(task.done() for task in requests) == 3)
        assert one.busy == 1
        one.gate.set()
        await asyncio.gather(*requests)


async def test_a_server_that_recovers_does_not_get_the_same_request_twice() -> None:
    one, other, pool = two_servers()
    async with pool.running():
        await asyncio.gather(*(pool.infer("warm") for _ in range(8)))
        for server in (one, other):
            server.problem, server.requests = DOWN, 0
            server.gate.clear()
        request = asyncio.create_task(pool.infer("x"))
        await until(lambda: one.busy + other.busy == 1)
        first, second = (one, other) if one.busy else (other, one)
        first.gate.set()
        await until(lambda: second.busy)
        await until(lambda: all(server.is_available for server in pool.servers))
        second.gate.set()
        with pytest.raises(Unavailable):
            await request
    assert (one.requests, other.requests) == (1, 1)


async def test_a_server_that_fails_gets_no_requests_and_another_one_answers_at_once() -> None:
    one, _, pool = two_servers()
    async with pool.running():
        one.problem, one.probe_problem = DOWN, DOWN
        answers = [await pool.infer("x") for _ in range(10)]
        assert set(answers) == {"x by other"}
        assert one.requests == 1
        assert [server.is_available for server in pool.servers] == [False, True]
        one.problem = one.probe_problem = None
        await until(lambda: pool.servers[0].is_available)
        await asyncio.gather(*(pool.infer("x") for _ in range(8)))
        assert one.requests > 1


async def test_without_an_available_server_a_request_fails_at_once_with_the_servers_errors() -> None:
    one, other, pool = two_servers()
    one.problem, other.problem = DOWN, Unavailable("full", "DETECTOR_AWAY")
    one.probe_problem = other.probe_problem = DOWN
    async with pool.running():
        with pytest.raises(Unavailable, match="down; down"):
            pool.require_available()
        for _ in range(5):
            with pytest.raises(Unavailable):
                await pool.infer("x")
    assert (one.requests, other.requests) == (0, 0)


async def test_the_last_servers_error_is_raised() -> None:
    one, other, pool = two_servers()
    one.problem = other.problem = DOWN
    async with pool.running():
        with pytest.raises(Unavailable, match="down"):
            await pool.infer("x")
        assert (one.requests, other.requests) == (1, 1)
        assert [server.failed for server in pool.servers] == [1, 1]


async def test_after_a_failure_a_server_gets_one_request_at_first() -> None:
    only = FakeServer("only")
    pool: ServerPool[str, str] = ServerPool([only], 90)
    async with pool.running():
        await pool.infer("warm")
        only.problem = DOWN
        with pytest.raises(Unavailable):
            await pool.infer("x")
        only.problem = None
        await until(lambda: pool.servers[0].is_available)
        only.gate.clear()
        only.busiest = 0
        requests = [asyncio.create_task(pool.infer("x")) for _ in range(4)]
        await until(lambda: only.busy)
        assert only.busiest == 1
        only.gate.set()
        await asyncio.gather(*requests)


async def test_a_server_stays_available_if_the_request_is_at_fault() -> None:
    one, other, pool = two_servers()
    one.problem = other.problem = Invalid("too odd", "DETECTOR_REFUSED")
    async with pool.running():
        with pytest.raises(Invalid):
            await pool.infer("x")
        assert one.requests + other.requests == 1
        assert all(server.is_available for server in pool.servers)


async def test_a_request_is_not_at_fault_if_the_server_holds_another_model() -> None:
    one, other, pool = two_servers()
    async with pool.running():
        one.problem = other.problem = Invalid("wrong shape", "DETECTOR_REFUSED")
        one.probe_problem = other.probe_problem = Unavailable("changed", "MODEL_CHANGED")
        with pytest.raises(Unavailable, match="changed"):
            await pool.infer("x")
        assert not any(server.is_available for server in pool.servers)


async def test_an_internal_error_is_raised_without_trying_another_server() -> None:
    one, other, pool = two_servers()
    one.problem = other.problem = Internal("nonsense", "DETECTOR_NONSENSE")
    async with pool.running():
        with pytest.raises(Internal):
            await pool.infer("x")
    assert one.requests + other.requests == 1


async def test_a_server_whose_connection_ended_is_probed_before_its_next_request() -> None:
    only = FakeServer("only")
    pool: ServerPool[str, str] = ServerPool([only], 90)
    async with pool.running():
        await pool.infer("x")
        await until(lambda: only.watched)
        probes = only.probes
        only.probe_problem = Unavailable("another model", "MODEL_CHANGED")
        only.lose_connection()
        with pytest.raises(Unavailable, match="connection ended"):
            pool.require_available()
        await until(lambda: only.probes > probes)
        with pytest.raises(Unavailable, match="another model"):
            pool.require_available()


async def test_a_cancelled_request_releases_its_capacity() -> None:
    only = FakeServer("only", limit=1)
    pool: ServerPool[str, str] = ServerPool([only], 90)
    async with pool.running():
        only.gate.clear()
        cancelled, waiting = (asyncio.create_task(pool.infer(name)) for name in ("a", "b"))
        await until(lambda: only.busy)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        only.gate.set()
        assert await waiting == "b by only"
        assert pool.servers[0].is_available
        assert pool.servers[0].in_flight == 0


async def test_waiting_for_capacity_ends() -> None:
    only = FakeServer("only", limit=1)
    pool: ServerPool[str, str] = ServerPool([only], 0.05)
    async with pool.running():
        only.gate.clear()
        first = asyncio.create_task(pool.infer("a"))
        await until(lambda: only.busy)
        with pytest.raises(Unavailable, match="busy"):
            await pool.infer("b")
        only.gate.set()
        await first


async def test_a_request_that_waits_for_capacity_fails_when_the_server_becomes_unavailable() -> None:
    only = FakeServer("only", limit=1)
    pool: ServerPool[str, str] = ServerPool([only], 90)
    async with pool.running():
        only.gate.clear()
        requests = [asyncio.create_task(pool.infer(name)) for name in ("a", "b", "c")]
        await until(lambda: only.busy)
        only.problem = only.probe_problem = DOWN
        only.gate.set()
        answers = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert only.requests == 1


async def test_an_unexpected_error_in_a_probe_makes_the_server_unavailable() -> None:
    only = FakeServer("only")
    pool: ServerPool[str, str] = ServerPool([only], 90)
    async with pool.running():
        await until(lambda: only.watched)
        pool.servers[0].server.probe = broken_probe  # type: ignore[method-assign]
        only.lose_connection()
        await until(lambda: "ZeroDivisionError" in pool.servers[0].last_error.message)
        assert not pool.servers[0].is_available
        del pool.servers[0].server.probe
        await until(lambda: pool.servers[0].is_available)


async def broken_probe() -> int:
    return 1 // 0
