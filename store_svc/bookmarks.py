"""Bookmarks in a filtered stream: how far it was examined, so that a watcher can go on there."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from lares.store.v1.events_pb2 import EventChanged


async def with_bookmarks(
    watched: AsyncIterator[EventChanged | int],
    wanted: Callable[[EventChanged], bool],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[EventChanged | int, None]:
    """The changes that are wanted, and bookmarks: the last sequence examined, never beyond a change to come.

    `watched` are the changes with positions in between, as Feed.watch_with_positions gives them. A position
    that tells something new becomes a bookmark at once. Otherwise there is one where nothing was told for
    `seconds`.
    """
    told, told_at = -1, clock()
    async for item in watched:
        if isinstance(item, int):
            examined, is_new = item, item > told
        elif wanted(item):
            yield item
            told, told_at = item.sequence, clock()
            continue
        else:
            examined, is_new = item.sequence, False
        if is_new or clock() - told_at >= seconds:
            yield examined
            told, told_at = examined, clock()
