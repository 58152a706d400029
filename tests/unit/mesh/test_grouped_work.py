"""Work of concurrent callers that is done in groups."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mesh.grouped_work import GroupedWork, one_by_one
from tests.support.waiting import until


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Recorded:
    """Records the groups, and waits while `go_on` is not set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        assert self.go_on.wait(90)
        return [item * 10 if item >= 0 else ValueError(item) for item in items]


async def test_who_is_ready_at_the_same_time_shares_a_group(executor: ThreadPoolExecutor) -> None:
    recorded = Recorded()
    work = GroupedWork(recorded, executor, most=16)
    assert await asyncio.gather(*(work.do(item) for item in range(3))) == [0, 10, 20]
    assert recorded.groups == [[0, 1, 2]]


async def test_the_next_group_gathers_meanwhile_up_to_its_limit(executor: ThreadPoolExecutor) -> None:
    recorded = Recorded()
    recorded.go_on.clear()
    work = GroupedWork(recorded, executor, most=3)
    first = asyncio.create_task(work.do(0))
    await until(lambda: recorded.groups)
    others = [asyncio.create_task(work.do(item)) for item in range(1, 6)]
    await asyncio.sleep(0)
    recorded.go_on.set()
    async with asyncio.timeout(90):
        assert await asyncio.gather(first, *others) == [0, 10, 20, 30, 40, 50]
    assert recorded.groups == [[0], [1, 2, 3], [4, 5]]


async def test_so_many_groups_are_worked_on_at_once(executor: ThreadPoolExecutor) -> None:
    recorded = Recorded()
    recorded.go_on.clear()
    work = GroupedWork(recorded, executor, most=2, at_once=2)
    tasks = [asyncio.create_task(work.do(item)) for item in range(5)]
    await until(lambda: len(recorded.groups) == 2)
    assert len(work._waiting) == 1
    recorded.go_on.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40]
    assert sorted(recorded.groups) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([1, 1, 100, 1, 1], [[1, 1], [100], [1, 1]]),
        ([100, 100], [[100], [100]]),
        ([4, 4, 2, 1], [[4, 4, 2], [1]]),
    ],
)
async def test_what_is_large_has_a_group_of_its_own(
    executor: ThreadPoolExecutor, sizes: list[int], groups: list[list[int]]
) -> None:
    recorded = Recorded()
    work = GroupedWork(recorded, executor, most=16, size=lambda item: item, most_size=10)
    await asyncio.gather(*(work.do(size) for size in sizes))
    assert recorded.groups == groups


async def test_an_item_fails_alone(executor: ThreadPoolExecutor) -> None:
    work = GroupedWork(Recorded(), executor, most=16)
    outcome = await asyncio.gather(*(work.do(item) for item in (1, -1, 2)), return_exceptions=True)
    assert [repr(result) for result in outcome] == ["10", "ValueError(-1)", "20"]

    def halve(item: int) -> int:
        if item % 2:
            raise ArithmeticError(item)
        return item // 2

    work = GroupedWork(one_by_one(halve), executor, most=16)
    outcome = await asyncio.gather(*(work.do(item) for item in (2, 3, 4)), return_exceptions=True)
    assert [repr(result) for result in outcome] == ["1", "ArithmeticError(3)", "2"]


async def test_work_that_fails_as_a_whole_fails_for_each_and_the_next_group_is_worked_on(
    executor: ThreadPoolExecutor,
) -> None:
    calls = list[int]()

    def fails_first(items: Sequence[int]) -> Sequence[int | Exception]:
        calls.append(len(items))
        if len(calls) == 1:
            raise KeyError("a bug")
        return items

    work = GroupedWork(fails_first, executor, most=2)
    outcome = await asyncio.gather(*(work.do(item) for item in range(3)), return_exceptions=True)
    assert [repr(result) for result in outcome] == ["KeyError('a bug')"] * 2 + ["2"]


async def test_whoever_is_cancelled_while_waiting_is_not_worked_for(executor: ThreadPoolExecutor) -> None:
    recorded = Recorded()
    recorded.go_on.clear()
    work = GroupedWork(recorded, executor, most=16)
    tasks = [asyncio.create_task(work.do(0))]
    await until(lambda: recorded.groups)
    tasks += [asyncio.create_task(work.do(item)) for item in (1, 2)]
    await asyncio.sleep(0)
    tasks[0].cancel()  # it is worked on
    tasks[1].cancel()
    recorded.go_on.set()
    assert await tasks[2] == 20
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert recorded.groups == [[0], [2]]


async def test_nobody_waits_for_an_executor_that_is_closed() -> None:
    recorded, executor = Recorded(), ThreadPoolExecutor(1)
    recorded.go_on.clear()
    work = GroupedWork(recorded, executor, most=1, at_once=2)
    tasks = [asyncio.create_task(work.do(item)) for item in range(3)]
    await until(lambda: recorded.groups)
    executor.shutdown(wait=False, cancel_futures=True)
    recorded.go_on.set()
    outcome = await asyncio.gather(*tasks, work.do(3), return_exceptions=True)
    assert outcome[0] == 0
    assert [type(result) for result in outcome[1:]] == [RuntimeError] * 3
