"""Does the work of concurrent callers in groups: one call of a thread, and one wake-up, for many of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def one_by_one(work: Callable[[T], R]) -> Callable[[Sequence[T]], Sequence[R | Exception]]:
    """Makes work for groups of work for one item."""

    def attempt(item: T) -> R | Exception:
        try:
            return work(item)
        except Exception as error:
            return error

    return lambda items: [attempt(item) for item in items]


class GroupedWork(Generic[T, R]):
    """`work` gets the items that have gathered while it had others, and returns for each its result or its
    error. It blocks, and runs in `executor`.

    A group has at most `most` items. Their sizes, by `size`, add up to at most `most_size`, unless it is a
    single item. At most `at_once` groups are worked on.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R | Exception]],
        executor: Executor,
        *,
        most: int,
        at_once: int = 1,
        size: Callable[[T], int] = lambda _: 0,
        most_size: int = 0,
    ) -> None:
        self._work, self._executor = work, executor
        self._most, self._at_once, self._size, self._most_size = most, at_once, size, most_size
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._groups = 0  # that are worked on

    async def do(self, item: T) -> R:
        """Returns the result of `item`, or raises its error."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, done))
        if self._groups < self._at_once:
            loop.call_soon(self._begin)  # everybody who is ready now comes first, and shares the group
        return await done

    def _begin(self) -> None:
        while self._groups < self._at_once and (group := self._next_group()):
            items = [item for item, _ in group]
            self._groups += 1
            try:
                working = asyncio.get_running_loop().run_in_executor(self._executor, self._work, items)
            except RuntimeError as error:  # the executor is closed
                self._groups -= 1
                _settle(group, [error] * len(group))
                continue
            working.add_done_callback(partial(self._end, group))

    def _next_group(self) -> list[tuple[T, asyncio.Future[R]]]:
        group: list[tuple[T, asyncio.Future[R]]] = []
        size = 0
        while self._waiting and len(group) < self._most:
            item, done = self._waiting[0]
            if not done.cancelled():
                size += self._size(item)
                if group and size > self._most_size:
                    break
                group.append((item, done))
            self._waiting.popleft()
        return group

    def _end(
        self, group: list[tuple[T, asyncio.Future[R]]], working: "asyncio.Future[Sequence[R | Exception]]"
    ) -> None:
        self._groups -= 1
        if working.cancelled():
            _settle(group, [RuntimeError("the executor was closed")] * len(group))
        elif error := working.exception():
            _settle(group, [error] * len(group))
        else:
            _settle(group, working.result())
        self._begin()


def _settle(group: Sequence[tuple[T, "asyncio.Future[R]"]], outcome: Sequence[R | BaseException]) -> None:
    for (_, done), result in zip(group, outcome, strict=True):
        if done.done():  # its caller was cancelled
            continue
        if isinstance(result, BaseException):
            done.set_exception(result)
        else:
            done.set_result(result)
