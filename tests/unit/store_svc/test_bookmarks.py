"""Bookmarks of a filtered stream."""

from collections.abc import AsyncIterator

from store_svc.api.events import BOOKMARK_SECONDS, IDLE_SECONDS
from store_svc.bookmarks import with_bookmarks
from tests.support.in_memory_feed import change

SECONDS = 15.0


async def contents_of(*items: tuple[float, int | str], wanted: set[int]) -> list[tuple[float, int | str]]:
    """Returns the content with its times. Changes are numbers, positions and bookmarks are strings."""
    now = 0.0

    async def watched() -> AsyncIterator[object]:
        nonlocal now
        for at, item in items:
            now = at
            yield int(item) if isinstance(item, str) else change(item)

    contents = with_bookmarks(watched(), lambda c: c.sequence in wanted, SECONDS, lambda: now)  # type: ignore[arg-type]
    return [(now, str(one) if isinstance(one, int) else one.sequence) async for one in contents]


async def test_the_first_position_becomes_a_bookmark_at_once() -> None:
    assert await contents_of((0, "7"), wanted=set()) == [(0, "7")]


async def test_a_filtered_backlog_ends_with_a_bookmark() -> None:
    backlog = [(0.0, sequence) for sequence in range(1, 6)]
    assert await contents_of(*backlog, (0, "5"), wanted={2}) == [(0, 2), (0, "5")]


async def test_filtered_changes_advance_the_bookmark() -> None:
    busy = [(float(second), second) for second in range(1, 41)]
    assert await contents_of(*busy, wanted=set()) == [(15, "15"), (30, "30")]


async def test_a_wanted_change_restarts_the_interval() -> None:
    busy = [(float(second), second) for second in range(1, 31)]
    assert await contents_of(*busy, wanted={10}) == [(10, 10), (25, "25")]


async def test_the_same_bookmark_is_repeated_only_after_the_interval() -> None:
    idle: list[tuple[float, int | str]] = [(float(second), "4") for second in range(0, 60, 10)]
    assert await contents_of(*idle, wanted=set()) == [(0, "4"), (20, "4"), (40, "4")]


async def test_a_position_after_a_filtered_change_becomes_a_bookmark_at_once() -> None:
    assert await contents_of((0, "4"), (9, 5), (10, "5"), wanted=set()) == [(0, "4"), (10, "5")]


def test_the_intervals_of_the_service_give_a_bookmark_every_30_seconds() -> None:
    # A bookmark is sent with the next position, which an idle feed gives every IDLE_SECONDS.
    assert BOOKMARK_SECONDS + IDLE_SECONDS < 30
