"""Tasks that end together."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class StrictTaskGroup(asyncio.TaskGroup):
    """A task that ends cancelled without having been cancelled itself, by a library for example, has failed.
    Without this a group goes on as if that task had done its work."""

    def create_task(self, work: Coroutine[Any, Any, T], **options: Any) -> "asyncio.Task[T]":  # type: ignore[override]
        task = super().create_task(_failing_if_cancelled(work), **options)
        task.add_done_callback(lambda _: work.close())  # of a task that was cancelled before it began
        return task


async def _failing_if_cancelled(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise RuntimeError("cancelled, but not by its owner") from None


@asynccontextmanager
async def task_group() -> AsyncIterator[StrictTaskGroup]:
    """A task group whose failure is the first error itself, so that a Problem stays one."""
    try:
        async with StrictTaskGroup() as group:
            yield group
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
