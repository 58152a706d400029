"""Distributes one tail of `store.feed.v1` to many subscribers."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

from lares.store.v1.events_pb2 import EventChanged
from mesh.bus import Bus
from mesh.problems import Problem, Unavailable
from mesh.topic_follower import follow_topic
from mesh.topics import FEED

# (after, limit) -> (changes in order, head sequence). Raises Conflict CURSOR_EXPIRED if `after` is too old,
# Invalid CURSOR_BEYOND_HEAD if the feed has not reached it.
Backlog: TypeAlias = Callable[[int, int], Awaitable[tuple[list[EventChanged], int]]]

PAGE = 200
SUBSCRIBER_BUFFER = 256


class FeedSubscriber:
    """A subscriber's queue of live changes. If it overflows, the subscriber has to read the backlog."""

    def __init__(self) -> None:
        self.behind = True
        self._changes: deque[EventChanged] = deque()
        self._arrived = asyncio.Event()
        self._failure: Problem | None = None

    def put(self, change: EventChanged) -> None:
        if len(self._changes) < SUBSCRIBER_BUFFER:
            self._changes.append(change)
            self._arrived.set()
        else:
            self.fall_behind()

    def fall_behind(self) -> None:
        self._changes.clear()
        self.behind = True
        self._arrived.set()

    def fail(self, failure: Problem) -> None:
        self._failure = failure
        self._arrived.set()

    async def next(self, seconds: float | None) -> EventChanged | None:
        """Returns None if the subscriber has to read the backlog first. Raises TimeoutError after `seconds`;
        None means no limit."""
        if seconds is None or self._arrived.is_set():
            await self._arrived.wait()  # a timeout would be costly for thousands of subscribers
        else:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        change = self._changes.popleft() if self._changes else None
        if not self._changes:
            self._arrived.clear()
        return change


class Feed:
    """All subscribers receive the same message objects, which must not be changed."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._subscribers: set[FeedSubscriber] = set()

    def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        """Yields the changes after the cursor, then live ones, each once and in order of sequence. None
        starts at the present.

        Raises Invalid CURSOR_BEYOND_HEAD, Conflict CURSOR_EXPIRED, and Unavailable. After Unavailable, watch
        again after the sequence of the last change.
        """
        return cast("AsyncGenerator[EventChanged, None]", self._watch(after, None))

    def watch_with_positions(
        self, after: int | None, idle_seconds: float
    ) -> AsyncGenerator[EventChanged | int, None]:
        """Yields the same changes, and also the sequence to continue after: each time the backlog has been
        read to its end, and after each `idle_seconds` without a change."""
        return self._watch(after, idle_seconds)

    async def _watch(
        self, after: int | None, idle_seconds: float | None
    ) -> AsyncGenerator[EventChanged | int, None]:
        """Yields no positions if `idle_seconds` is None."""
        subscriber = FeedSubscriber()
        self._subscribers.add(subscriber)  # before the backlog is read, so that nothing is missed in between
        try:
            cursor = await self._begin(after)
            while True:
                if subscriber.behind:
                    subscriber.behind = False
                    async for change in self._catch_up(cursor):
                        cursor = change.sequence
                        yield change
                    if idle_seconds is not None:
                        yield cursor
                try:
                    live = await subscriber.next(idle_seconds)
                except TimeoutError:
                    yield cursor
                    continue
                if live is None:
                    continue
                if live.sequence > cursor + 1:
                    async for change in self._catch_up(cursor):
                        cursor = change.sequence
                        yield change
                if live.sequence > cursor:
                    cursor = live.sequence
                    yield live
        finally:
            self._subscribers.discard(subscriber)

    async def _begin(self, after: int | None) -> int:
        if after is not None:
            return after
        _, head = await self._backlog(0, 1)
        return head

    async def _catch_up(self, cursor: int) -> AsyncIterator[EventChanged]:
        """Yields the backlog up to its head, including changes added meanwhile."""
        while True:
            changes, head = await self._backlog(cursor, PAGE)
            for change in changes:
                cursor = change.sequence
                yield change
            if not changes or cursor >= head:
                return

    def put(self, change: EventChanged) -> None:
        """Takes a record of the topic. Records arrive in order, each at least once."""
        for subscriber in self._subscribers:
            subscriber.put(change)

    def fall_behind(self) -> None:
        """Makes every subscriber read the backlog, because records may have been missed."""
        for subscriber in self._subscribers:
            subscriber.fall_behind()

    def fail(self, failure: Problem) -> None:
        for subscriber in self._subscribers:
            subscriber.fail(failure)


@asynccontextmanager
async def open_feed(bus: Bus, backlog: Backlog) -> AsyncIterator[Feed]:
    """Follows the live tail from before the block is entered. Raises Unavailable, NotFound. When the block
    ends, subscribers get Unavailable FEED_CLOSED."""
    feed = Feed(backlog)
    try:
        async with follow_topic(bus, FEED, "end", feed.put, feed.fall_behind):
            yield feed
    finally:
        feed.fail(Unavailable("the feed is closing", "FEED_CLOSED"))
