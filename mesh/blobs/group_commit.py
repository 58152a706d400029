"""Commits the items of concurrent callers in batches."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_BATCH = 64


class GroupCommit(Generic[T]):
    """Calls `work` in a thread with one batch after another; meanwhile, the next batch accumulates.

    `work` returns for each item its error, or None.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[Exception | None]]) -> None:
        self._work = work
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="blob-commits")
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._working: asyncio.Task[None] | None = None

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def commit(self, item: T) -> None:
        """Returns when the item is committed. Raises its error."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._commit_all())
        await done

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            outcome: Sequence[Exception | None]
            try:
                loop = asyncio.get_running_loop()
                outcome = await loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
            except Exception as error:
                outcome = [error] * len(batch)
            except asyncio.CancelledError:
                for _, done in batch:
                    done.cancel()
                raise
            for (_, done), failure in zip(batch, outcome, strict=True):
                if done.done():  # the caller was cancelled
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
