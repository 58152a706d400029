"""Shares the responses of a subscription: each change is executed once, and every socket gets the same
text."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from cachetools import FIFOCache

from gateway.schema.subscription import EventChange

# Subscribers that are further apart than this (one reads old changes, another is live) share nothing.
CACHED_RESPONSES = 64


class SharedResponses:
    """The responses to one request, by the sequence of the change.

    `respond` returns the text, or a coroutine for it if other services must be asked. The coroutine must not
    raise and must end in bounded time.
    """

    def __init__(self, respond: Callable[[EventChange], str | Coroutine[Any, Any, str]]) -> None:
        self._respond = respond
        self._responses: FIFOCache[int, str | _PendingResponse] = FIFOCache(CACHED_RESPONSES)

    def get(self, change: EventChange) -> "str | Awaitable[str]":
        sequence = change.message.sequence
        response = self._responses.get(sequence)
        if response is None:
            made = self._respond(change)
            response = made if isinstance(made, str) else _PendingResponse(made)
            self._responses[sequence] = response
        return response if isinstance(response, str) else response.text()


class _PendingResponse:
    """Runs in a task of its own, so that the subscriber that needed it first may leave and the others still
    get it."""

    def __init__(self, responding: Coroutine[Any, Any, str]) -> None:
        self._done = asyncio.Event()
        self._task = asyncio.create_task(responding)
        self._task.add_done_callback(lambda _: self._done.set())

    async def text(self) -> str:
        await self._done.wait()
        return self._task.result()
