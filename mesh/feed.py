"""One tail of `store.feed.v1`, fanned out to many subscribers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from lares.store.v1.events_pb2 import EventChanged
from mesh.bus import Bus

# (after, limit) -> (changes in order, head sequence)
Backlog: TypeAlias = Callable[[int, int], Awaitable[tuple[list[EventChanged], int]]]


class Feed:
    def watch(self, after: int | None) -> AsyncIterator[EventChanged]:
        raise NotImplementedError


@asynccontextmanager
async def open_feed(bus: Bus, backlog: Backlog) -> AsyncIterator[Feed]:
    raise NotImplementedError
    yield Feed()
