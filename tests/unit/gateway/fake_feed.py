"""FakeFeed: the feed's promises (backlog, then live, each once) over a list."""

import asyncio
from collections.abc import AsyncGenerator

from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import Conflict, Invalid


class FakeFeed:
    def __init__(self, changes: list[EventChanged]) -> None:
        self._changes = changes
        self._grown = asyncio.Condition()
        self.watching = 0
        self.oldest = 0

    async def wake(self) -> None:
        """After the list has grown."""
        async with self._grown:
            self._grown.notify_all()

    async def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        position = len(self._changes) if after is None else after
        if position > len(self._changes):
            raise Invalid("there is no such cursor yet", "CURSOR_BEYOND_HEAD")
        if position < self.oldest:
            raise Conflict("this cursor is older than what is kept", "CURSOR_EXPIRED")
        self.watching += 1
        try:
            while True:
                async with self._grown:
                    await self._grown.wait_for(lambda: len(self._changes) > position)  # noqa: B023
                while position < len(self._changes):
                    position += 1
                    yield self._changes[position - 1]
        finally:
            self.watching -= 1
