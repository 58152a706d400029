"""One subscription asked by many: each entry is rendered once, and the same text goes to every socket."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.schema.subscription import EventChange

# Listeners that are further apart than this (one reads the backlog, one is live) render for themselves.
REMEMBERED = 64


class Rendering:
    """The answers of one operation, by sequence. `render` never raises, and ends in bounded time."""

    def __init__(self, render: Callable[[EventChange], Awaitable[str]]) -> None:
        self._render = render
        self._answers: OrderedDict[int, asyncio.Task[str]] = OrderedDict()

    async def of(self, change: EventChange) -> str:
        sequence = change.message.sequence
        task = self._answers.get(sequence)
        if task is None:
            task = self._answers[sequence] = asyncio.create_task(self._make(change))
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        # Shielded: whoever came first may leave, the others still wait for it.
        return task.result() if task.done() else await asyncio.shield(task)

    async def _make(self, change: EventChange) -> str:
        return await self._render(change)
