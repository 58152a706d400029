"""One subscription asked by many: each entry is rendered once, and the same text goes to every socket."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.schema.subscription import EventChange

# Listeners that are further apart than this (one reads the backlog, one is live) render for themselves.
REMEMBERED = 64


class Rendering:
    """The answers of one operation, by sequence. `render` gives the text, or what to await for it where other
    services must be asked; that never raises, and ends in bounded time."""

    def __init__(self, render: Callable[[EventChange], str | Coroutine[Any, Any, str]]) -> None:
        self._render = render
        self._answers: OrderedDict[int, str | _Pending] = OrderedDict()

    def of(self, change: EventChange) -> "str | Awaitable[str]":
        sequence = change.message.sequence
        answer = self._answers.get(sequence)
        if answer is None:
            made = self._render(change)
            answer = made if isinstance(made, str) else _Pending(made)
            self._answers[sequence] = answer
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return answer if isinstance(answer, str) else answer.text()


class _Pending:
    """A text in the making. Whoever asked first may leave, the others still get it."""

    def __init__(self, making: Coroutine[Any, Any, str]) -> None:
        self._made = asyncio.Event()
        self._task = asyncio.create_task(making)
        self._task.add_done_callback(lambda _: self._made.set())

    async def text(self) -> str:
        await self._made.wait()
        return self._task.result()
