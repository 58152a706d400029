"""Tasks that end together."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class StrictTaskGroup(asyncio.TaskGroup):
    """A TaskGroup that counts a task as failed if it raises CancelledError without having been cancelled, as
    libraries can cause. A TaskGroup of asyncio continues as if that task had finished its work."""

    def create_task(self, work: Coroutine[Any, Any, T], **options: Any) -> "asyncio.Task[T]":  # type: ignore[override]
        task = super().create_task(_failing_if_cancelled(work), **options)
        task.add_done_callback(lambda _: work.close())  # for a task that was cancelled before its first step
        return task


async def until_first_ends(*works: Coroutine[Any, Any, object]) -> None:
    """Runs all at the same time until one ends, then cancels the others and waits for them. Raises the error
    with which it ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _failing_if_cancelled(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise RuntimeError("ended with CancelledError without having been cancelled") from None


@asynccontextmanager
async def task_group() -> AsyncIterator[StrictTaskGroup]:
    """Opens a task group that raises the first error itself, without an ExceptionGroup around it."""
    try:
        async with StrictTaskGroup() as group:
            yield group
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
