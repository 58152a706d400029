"""How the feed distributes changes to subscribers, with a fake tail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from lares.store.v1.events_pb2 import EventChanged
from mesh.bus import Bus, Delivery
from mesh.feed import Feed, open_feed
from mesh.problems import Conflict, Invalid, Unavailable
from mesh.retry import Backoff
from tests.support.in_memory_feed import InMemoryFeed, change
from tests.support.waiting import until


class FakeTail:
    """A fake of the bus's tail. Yields what is put, and raises exceptions that are put."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[EventChanged | BaseException] = asyncio.Queue()

    def put(self, item: EventChanged | BaseException) -> None:
        self._queue.put_nowait(item)

    def empty(self) -> bool:
        return self._queue.empty()

    def __aiter__(self) -> "FakeTail":
        return self

    async def __anext__(self) -> Delivery[EventChanged]:
        item = await self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return cast(Delivery[EventChanged], type("Delivered", (), {"message": item}))

    async def caught_up(self) -> None:
        return


class FakeBus:
    def __init__(self) -> None:
        self.tails: list[FakeTail] = []

    @asynccontextmanager
    async def tail(self, *_: Any, **__: Any) -> AsyncIterator[FakeTail]:
        self.tails.append(FakeTail())
        yield self.tails[-1]


@asynccontextmanager
async def opened(source: InMemoryFeed) -> AsyncIterator[tuple[Feed, FakeBus]]:
    bus = FakeBus()
    async with open_feed(cast(Bus, bus), source.backlog) as feed:
        yield feed, bus


async def take(watching: AsyncIterator[EventChanged], count: int) -> list[int]:
    async with asyncio.timeout(90):
        return [(await anext(watching)).sequence for _ in range(count)]


async def subscribed(feed: Feed, count: int = 1) -> None:
    """Waits until `count` subscribers wait for live changes."""
    await until(lambda: len([one for one in feed._subscribers if not one.behind]) == count)


def written(count: int) -> InMemoryFeed:
    source = InMemoryFeed()
    for _ in range(count):
        source.write()
    return source


async def test_the_backlog_is_followed_by_live_changes_without_gap_or_duplicate() -> None:
    source = written(450)  # more than two pages
    async with opened(source) as (feed, bus):
        watching = feed.watch(0)
        assert await take(watching, 450) == list(range(1, 451))
        for sequence in (449, 450, 450, 451):  # relayed late, or twice
            if sequence > source.head:
                source.write()
            bus.tails[0].put(change(sequence))
        assert await take(watching, 1) == [451]


async def test_a_change_written_while_the_backlog_is_read_is_yielded_once() -> None:
    source = written(3)
    async with opened(source) as (feed, bus):
        watching = feed.watch(1)
        assert await take(watching, 1) == [2]
        bus.tails[0].put(source.write())
        assert await take(watching, 2) == [3, 4]
        bus.tails[0].put(source.write())
        assert await take(watching, 1) == [5]


async def test_a_change_relayed_while_the_backlog_is_read_is_not_missed() -> None:
    source, bus = written(2), FakeBus()

    async def backlog(after: int, limit: int) -> tuple[list[EventChanged], int]:
        answer = await source.backlog(after, limit)
        if source.head == 2:
            bus.tails[0].put(source.write())
            await until(bus.tails[0].empty)
            await asyncio.sleep(0)  # the follower has taken it
        return answer

    async with open_feed(cast(Bus, bus), backlog) as feed:
        assert await take(feed.watch(0), 3) == [1, 2, 3]
    source = written(2)
    async with open_feed(cast(Bus, bus), backlog) as feed:
        bus.tails.pop(0)
        assert await take(feed.watch(None), 1) == [3]


async def test_watching_without_a_cursor_starts_at_the_present() -> None:
    source = written(3)
    async with opened(source) as (feed, bus):
        watching = feed.watch(None)
        waiting = asyncio.ensure_future(take(watching, 1))
        await subscribed(feed)
        bus.tails[0].put(change(3))  # relayed after it was read
        bus.tails[0].put(source.write())
        assert await waiting == [4]


async def take_any(watching: AsyncIterator[EventChanged | int], count: int) -> list[int | str]:
    """Returns changes as numbers, and positions as text."""
    async with asyncio.timeout(90):
        items = [await anext(watching) for _ in range(count)]
    return [str(item) if isinstance(item, int) else item.sequence for item in items]


async def test_positions_are_yielded_after_the_backlog_and_while_idle() -> None:
    source = written(3)
    async with opened(source) as (feed, bus):
        watching = feed.watch_with_positions(1, 0.01)
        assert await take_any(watching, 5) == [2, 3, "3", "3", "3"]
        bus.tails[0].put(source.write())
        came = await take_any(watching, 1)
        while came[-1] != 4:
            assert came == ["3"]
            came = await take_any(watching, 1)
        assert await take_any(watching, 2) == ["4", "4"]


async def test_the_first_position_without_a_cursor_is_the_head() -> None:
    async with opened(written(3)) as (feed, _):
        assert await take_any(feed.watch_with_positions(None, 90), 1) == ["3"]


async def test_a_position_is_never_ahead_of_a_later_change() -> None:
    """At any pace, all changes up to a position have been yielded before it."""
    source = written(300)
    async with opened(source) as (feed, bus):
        watching = feed.watch_with_positions(0, 0.001)

        async def relay() -> None:
            for _ in range(300):
                bus.tails[0].put(source.write())
                await asyncio.sleep(0.002 * (source.head % 3))

        relaying = asyncio.create_task(relay())
        seen, positions = 0, 0
        async with asyncio.timeout(90):
            while seen < 600:
                item = await anext(watching)
                if isinstance(item, int):
                    assert item == seen
                    positions += 1
                else:
                    assert item.sequence == seen + 1
                    seen = item.sequence
        await relaying
        assert positions > 10


async def test_invalid_and_expired_cursors_are_refused() -> None:
    source = written(5)
    source.expired = 3
    async with opened(source) as (feed, _):
        with pytest.raises(Invalid) as beyond:
            await take(feed.watch(6), 1)
        assert beyond.value.reason == "CURSOR_BEYOND_HEAD"
        with pytest.raises(Conflict) as expired:
            await take(feed.watch(2), 1)
        assert expired.value.reason == "CURSOR_EXPIRED"
        assert not feed._subscribers
        assert await take(feed.watch(0), 2) == [4, 5]  # 0 starts at the oldest kept change


async def test_skipped_changes_are_read_from_the_backlog() -> None:
    source = written(1)
    async with opened(source) as (feed, bus):
        watching = feed.watch(1)
        waiting = asyncio.ensure_future(take(watching, 4))
        await subscribed(feed)
        for _ in range(3):
            source.write()  # not relayed
        bus.tails[0].put(source.write())
        assert await waiting == [2, 3, 4, 5]


async def test_a_slow_subscriber_reads_the_backlog_and_does_not_delay_others() -> None:
    source = written(0)
    async with opened(source) as (feed, bus):
        slow, quick = feed.watch(0), feed.watch(0)
        waiting = [asyncio.ensure_future(take(slow, 1)), asyncio.ensure_future(take(quick, 1))]
        await subscribed(feed, 2)
        bus.tails[0].put(source.write())
        assert [await each for each in waiting] == [[1], [1]]
        for sequence in range(2, 2001):
            bus.tails[0].put(source.write())
            assert await take(quick, 1) == [sequence]
        (held,) = {len(one._changes) for one in feed._subscribers} - {0}
        assert held <= 256
        reads = source.reads
        assert await take(slow, 1999) == list(range(2, 2001))
        assert source.reads > reads


async def test_all_subscribers_get_the_same_object() -> None:
    source = written(0)
    async with opened(source) as (feed, bus):
        watching = [feed.watch(0), feed.watch(0)]
        waiting = [asyncio.ensure_future(anext(each)) for each in watching]
        await subscribed(feed, 2)
        bus.tails[0].put(source.write())
        one, two = await asyncio.gather(*waiting)
        assert one is two


@pytest.mark.parametrize(
    "failure",
    [Conflict("gone", "OFFSET_OUT_OF_RANGE"), RuntimeError("not assigned"), asyncio.CancelledError()],
)
async def test_after_a_failure_the_tail_is_opened_again_and_missed_changes_are_read(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    monkeypatch.setattr("mesh.topic_follower.BACKOFF", Backoff(0.0, 0.0))
    source = written(1)
    async with opened(source) as (feed, bus):
        watching = feed.watch(1)
        waiting = asyncio.ensure_future(take(watching, 1))
        await subscribed(feed)
        source.write()  # relayed while no tail was open
        bus.tails[0].put(failure)
        assert await waiting == [2]
        bus.tails[1].put(source.write())
        assert await take(watching, 1) == [3]


async def test_subscribers_can_leave_and_get_an_error_when_the_feed_closes() -> None:
    source = written(2)
    async with opened(source) as (feed, _):
        async with aclosing(feed.watch(0)) as leaving:
            assert await take(leaving, 1) == [1]
        assert not feed._subscribers
        staying = feed.watch(2)
        waiting = asyncio.ensure_future(take(staying, 1))
        await subscribed(feed)
    with pytest.raises(Unavailable) as closed:
        await waiting
    assert closed.value.reason == "FEED_CLOSED"
