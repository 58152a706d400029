"""Bookmarks in a filtered stream: they tell a watcher how far the feed was examined."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from lares.store.v1.events_pb2 import EventChanged


async def with_bookmarks(
    watched: AsyncIterator[EventChanged | int],
    wanted: Callable[[EventChanged], bool],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[EventChanged | int, None]:
    """Yields the wanted changes, and bookmarks between them: sequences up to which everything was examined.

    `watched` yields changes and positions, as Feed.watch_with_positions does. A position beyond the last
    yielded sequence becomes a bookmark immediately. Otherwise there is a bookmark if nothing was yielded for
    `seconds`.
    """
    last, last_at = -1, clock()
    async for item in watched:
        if isinstance(item, int):
            examined, is_new = item, item > last
        elif wanted(item):
            yield item
            last, last_at = item.sequence, clock()
            continue
        else:
            examined, is_new = item.sequence, False
        if is_new or clock() - last_at >= seconds:
            yield examined
            last, last_at = examined, clock()
