"""One tail of `store.feed.v1`, fanned out to many subscribers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import structlog

from lares.store.v1.events_pb2 import EventChanged
from mesh.bus import Bus
from mesh.problems import Invalid, Problem, Unavailable
from mesh.topics import FEED

log = structlog.get_logger(__name__)

# (after, limit) -> (changes in order, head sequence). Raises Conflict CURSOR_EXPIRED where `after` is too old.
Backlog: TypeAlias = Callable[[int, int], Awaitable[tuple[list[EventChanged], int]]]

PAGE = 200
SEAT = 256
AGAIN_SECONDS = 1.0


class Seat:
    """One subscriber's place on the live tail. One who does not keep up loses it, and reads the backlog instead."""

    def __init__(self) -> None:
        self.behind = True
        self._changes: deque[EventChanged] = deque()
        self._arrived = asyncio.Event()
        self._failure: Problem | None = None

    def put(self, change: EventChanged) -> None:
        if len(self._changes) < SEAT:
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

    async def next(self) -> EventChanged | None:
        """None once there is something in the backlog that comes first."""
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
        self._seats: set[Seat] = set()

    async def watch(self, after: int | None) -> AsyncIterator[EventChanged]:
        """The changes after the cursor, then live, each once and in order of sequence; None starts now.

        Raises Invalid CURSOR_BEYOND_HEAD, Conflict CURSOR_EXPIRED, and Unavailable: then go on with the sequence
        of the last change that came.
        """
        seat = Seat()
        self._seats.add(seat)  # before the backlog is read: so there is no gap between the two
        try:
            cursor = await self._begin(after)
            while True:
                if seat.behind:
                    seat.behind = False
                    async for change in self._catch_up(cursor):
                        cursor = change.sequence
                        yield change
                live = await seat.next()
                if live is None or live.sequence <= cursor:
                    continue
                if live.sequence > cursor + 1:
                    async for change in self._catch_up(cursor):
                        cursor = change.sequence
                        yield change
                if live.sequence > cursor:
                    cursor = live.sequence
                    yield live
        finally:
            self._seats.discard(seat)

    async def _begin(self, after: int | None) -> int:
        _, head = await self._backlog(0 if after is None else after, 1)
        if after is not None and after > head:
            raise Invalid(f"the feed ends at {head}, before {after}", "CURSOR_BEYOND_HEAD", head=str(head))
        return head if after is None else after

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
        for seat in self._seats:
            seat.put(change)

    def fall_behind(self) -> None:
        """Something may have been missed."""
        for seat in self._seats:
            seat.fall_behind()

    def fail(self, failure: Problem) -> None:
        for seat in self._seats:
            seat.fail(failure)


@asynccontextmanager
async def open_feed(bus: Bus, backlog: Backlog) -> AsyncIterator[Feed]:
    """On the live tail when the block is entered. Raises Unavailable, NotFound; at its end subscribers get
    Unavailable FEED_CLOSED."""
    feed, entered = Feed(backlog), asyncio.Event()
    following = asyncio.create_task(_follow(bus, feed, entered), name="feed")
    try:
        await _until(entered, following)
        yield feed
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        feed.fail(Unavailable("the feed is closing", "FEED_CLOSED"))


async def _follow(bus: Bus, feed: Feed, entered: asyncio.Event) -> None:
    while True:
        try:
            async with bus.tail(FEED, start="end") as tail:
                feed.fall_behind()
                entered.set()
                async for delivery in tail:
                    feed.put(delivery.message)
        except Problem as problem:
            if not entered.is_set():
                raise
            log.warning("the feed is entered again", reason=problem.reason, error=problem.message)
            await asyncio.sleep(AGAIN_SECONDS)
