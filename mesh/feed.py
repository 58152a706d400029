"""One tail of `store.feed.v1`, fanned out to many subscribers."""

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

# (after, limit) -> (changes in order, head sequence). Raises Conflict CURSOR_EXPIRED where `after` is too
# old, Invalid CURSOR_BEYOND_HEAD where there is no such cursor yet.
Backlog: TypeAlias = Callable[[int, int], Awaitable[tuple[list[EventChanged], int]]]

PAGE = 200
SUBSCRIBER_BUFFER = 256


class FeedSubscriber:
    """One subscriber's place on the live tail. One who does not keep up loses it, and reads the backlog
    instead."""

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
        """None once there is something in the backlog that comes first. Raises TimeoutError when nothing came
        for `seconds`; None waits for ever."""
        if seconds is None or self._arrived.is_set():
            await self._arrived.wait()  # without the cost of a timeout: thousands may wait here
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
    """Every subscriber is handed the same message objects: they must not be changed."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._subscribers: set[FeedSubscriber] = set()

    def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        """The changes after the cursor, then live, each once and in order of sequence; None starts now.

        Raises Invalid CURSOR_BEYOND_HEAD, Conflict CURSOR_EXPIRED, and Unavailable: then go on with the
        sequence of the last change that came.
        """
        return cast("AsyncGenerator[EventChanged, None]", self._watch(after, None))

    def watch_with_positions(
        self, after: int | None, idle_seconds: float
    ) -> AsyncGenerator[EventChanged | int, None]:
        """The same. In between, whenever the backlog is read to its end and whenever nothing came for
        `idle_seconds`, the sequence to go on after: every change up to it has come."""
        return self._watch(after, idle_seconds)

    async def _watch(
        self, after: int | None, idle_seconds: float | None
    ) -> AsyncGenerator[EventChanged | int, None]:
        """Without positions where `idle_seconds` is None."""
        subscriber = FeedSubscriber()
        self._subscribers.add(subscriber)  # before the backlog is read: so there is no gap between the two
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
        """From the backlog, up to its head as it is at the end."""
        while True:
            changes, head = await self._backlog(cursor, PAGE)
            for change in changes:
                cursor = change.sequence
                yield change
            if not changes or cursor >= head:
                return

    def put(self, change: EventChanged) -> None:
        """A record of the topic, at least once and in order."""
        for subscriber in self._subscribers:
            subscriber.put(change)

    def fall_behind(self) -> None:
        """Something may have been missed."""
        for subscriber in self._subscribers:
            subscriber.fall_behind()

    def fail(self, failure: Problem) -> None:
        for subscriber in self._subscribers:
            subscriber.fail(failure)


@asynccontextmanager
async def open_feed(bus: Bus, backlog: Backlog) -> AsyncIterator[Feed]:
    """On the live tail when the block is entered. Raises Unavailable, NotFound; at its end subscribers get
    Unavailable FEED_CLOSED."""
    feed = Feed(backlog)
    try:
        async with follow_topic(bus, FEED, "end", feed.put, feed.fall_behind):
            yield feed
    finally:
        feed.fail(Unavailable("the feed is closing", "FEED_CLOSED"))
