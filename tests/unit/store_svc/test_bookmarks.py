"""Bookmarks of a filtered stream."""

from collections.abc import AsyncIterator

from store_svc.api.events import BOOKMARK_SECONDS, IDLE_SECONDS
from store_svc.bookmarks import with_bookmarks
from tests.support.in_memory_feed import change

SECONDS = 15.0


async def told(*items: tuple[float, int | str], wanted: set[int]) -> list[tuple[float, int | str]]:
    """What comes of items at these times: changes are numbers, positions and bookmarks are texts."""
    now = 0.0

    async def watched() -> AsyncIterator[object]:
        nonlocal now
        for at, item in items:
            now = at
            yield int(item) if isinstance(item, str) else change(item)

    contents = with_bookmarks(watched(), lambda c: c.sequence in wanted, SECONDS, lambda: now)  # type: ignore[arg-type]
    return [(now, str(one) if isinstance(one, int) else one.sequence) async for one in contents]


async def test_the_first_position_is_told_at_once() -> None:
    assert await told((0, "7"), wanted=set()) == [(0, "7")]


async def test_a_backlog_that_is_withheld_ends_with_a_bookmark() -> None:
    backlog = [(0.0, sequence) for sequence in range(1, 6)]
    assert await told(*backlog, (0, "5"), wanted={2}) == [(0, 2), (0, "5")]


async def test_changes_that_are_withheld_move_the_bookmark() -> None:
    busy = [(float(second), second) for second in range(1, 41)]
    assert await told(*busy, wanted=set()) == [(15, "15"), (30, "30")]


async def test_a_wanted_change_tells_as_much_as_a_bookmark() -> None:
    busy = [(float(second), second) for second in range(1, 31)]
    assert await told(*busy, wanted={10}) == [(10, 10), (25, "25")]


async def test_one_that_says_nothing_new_comes_only_where_it_was_quiet() -> None:
    idle: list[tuple[float, int | str]] = [(float(second), "4") for second in range(0, 60, 10)]
    assert await told(*idle, wanted=set()) == [(0, "4"), (20, "4"), (40, "4")]


async def test_a_position_after_something_was_withheld_is_told_at_once() -> None:
    assert await told((0, "4"), (9, 5), (10, "5"), wanted=set()) == [(0, "4"), (10, "5")]


def test_a_bookmark_comes_at_least_every_30_seconds_with_what_the_service_sets() -> None:
    # It is told with the next position, which a quiet feed gives every IDLE_SECONDS.
    assert BOOKMARK_SECONDS + IDLE_SECONDS < 30
