"""What the health service answers, and when it looks at the state of the process."""

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.support.rpc_harness import Harness, wait_forever
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.usefixtures("calling_as_itself")

# The first one needs `postgres`, the second one nothing.
KEYS, EVENTS = "lares.store.v1.KeyService", "lares.store.v1.EventService"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class State:
    """The parts that are missing, and which parts were asked for."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.asked: list[Collection[str] | None] = []
        self.hangs = False

    async def find(self, parts: Collection[str] | None) -> Collection[str]:
        self.asked.append(parts)
        if self.hangs and parts is None:
            await wait_forever()
        return self.missing if parts is None else self.missing & set(parts)


@pytest.fixture
def stub(harness: Harness) -> Any:
    return health_pb2_grpc.HealthStub(harness.public)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question looks at the state, and watching is quick."""
    monkeypatch.setattr("mesh.rpc.health.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("mesh.rpc.health.WATCH_SECONDS", 0.01)


async def serving(stub: Any) -> set[str]:
    answers = {name: await stub.Check(HealthCheckRequest(service=name)) for name in ("", KEYS, EVENTS)}
    return {name for name, answer in answers.items() if answer.status == SERVING}


@pytest.mark.usefixtures("fresh")
async def test_it_is_told_to_everyone_by_service_and_as_a_whole(harness: Harness, stub: Any) -> None:
    state = State()
    assert await serving(stub) == {KEYS, EVENTS}  # siblings wait for each other while they start
    harness.server.report_health(state.find)
    for missing, expected in (
        (set[str](), {"", KEYS, EVENTS}),
        ({"postgres"}, {EVENTS}),
        ({"kafka"}, {KEYS, EVENTS}),
        (set[str](), {"", KEYS, EVENTS}),
    ):
        state.missing = missing
        assert await serving(stub) == expected
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.Check(HealthCheckRequest(service="lares.nothing"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_nothing_is_checked_unless_somebody_asks_and_then_once_for_all(
    harness: Harness, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.rpc.health.FRESH_SECONDS", 60.0)
    state = State()
    harness.server.report_health(state.find)
    async with grpc.aio.insecure_channel(harness.doors[1]) as channel:
        await asyncio.wait_for(channel.channel_ready(), 90)
    assert state.asked == []
    await asyncio.gather(*(serving(stub) for _ in range(20)))
    assert sorted(map(str, state.asked)) == ["None", "frozenset()", "frozenset({'postgres'})"]


@pytest.mark.usefixtures("fresh")
async def test_a_part_that_hangs_delays_no_service_that_does_not_need_it(harness: Harness, stub: Any) -> None:
    state = State()
    state.hangs = True
    harness.server.report_health(state.find)
    whole = asyncio.ensure_future(stub.Check(HealthCheckRequest()))
    await until(lambda: None in state.asked)
    assert (await stub.Check(HealthCheckRequest(service=KEYS))).status == SERVING
    assert not whole.done()
    whole.cancel()


@pytest.mark.usefixtures("fresh")
async def test_everyone_who_watches_is_told_of_every_change_and_of_the_end(
    harness: Harness, stub: Any
) -> None:
    state, told = State(), dict[int, list[int]]()
    state.missing = {"postgres"}
    harness.server.report_health(state.find)

    async def watch(number: int, service: str) -> None:
        async for answer in stub.Watch(HealthCheckRequest(service=service)):
            told.setdefault(number, []).append(answer.status)

    watching = [asyncio.create_task(watch(number, KEYS)) for number in range(3)]
    watching.append(asyncio.create_task(watch(3, "lares.nothing")))
    seen = [NOT_SERVING]
    await until(lambda: told == {0: seen, 1: seen, 2: seen, 3: [HealthCheckResponse.SERVICE_UNKNOWN]})
    state.missing = set()
    await until(lambda: [told[n][-1] for n in range(3)] == [SERVING] * 3)
    watching.pop(0).cancel()  # the others are told all the same
    state.missing = {"postgres"}
    await until(lambda: [told[n][-1] for n in (1, 2)] == [NOT_SERVING] * 2)
    state.missing = set()
    await until(lambda: [told[n][-1] for n in (1, 2)] == [SERVING] * 2)
    harness.server.drain()
    await until(lambda: [told[n][-1] for n in (1, 2)] == [NOT_SERVING] * 2)
    state.missing = {"postgres"}  # which changes nothing any more
    state.missing = set()
    late = stub.Watch(HealthCheckRequest(service=KEYS))
    assert (await late.read()).status == NOT_SERVING
    following = asyncio.ensure_future(late.read())
    for _ in range(5):
        assert not await serving(stub)
    assert not following.done()  # until the server stops
    stopping = asyncio.create_task(harness.server.stop(5))
    await asyncio.gather(*watching)
    assert told[1] == told[2] == [NOT_SERVING, SERVING] * 2 + [NOT_SERVING]
    assert await following is grpc.aio.EOF
    await stopping


@pytest.mark.usefixtures("fresh")
async def test_nobody_is_looked_after_who_does_not_watch_any_more(harness: Harness, stub: Any) -> None:
    state = State()
    harness.server.report_health(state.find)
    watch = stub.Watch(HealthCheckRequest(service=KEYS))
    assert (await watch.read()).status == SERVING
    watch.cancel()

    async def quiet() -> bool:
        before = len(state.asked)
        await asyncio.sleep(0.1)
        return len(state.asked) == before

    await until_async(quiet)
