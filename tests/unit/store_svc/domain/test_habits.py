"""What is usual before a camera at an hour of the day."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.scene.geometry import Polygon
from store_svc.domain.habits import (
    MOST_STAYS,
    WINDOW_DAYS,
    Bucket,
    CountedBehaviour,
    CountedPlace,
    HabitBook,
    Stays,
    UsualBehaviour,
    dump_stays,
    load_stays,
    local_half_hour,
    polygon_digest,
    window_of,
    with_frame,
)
from store_svc.times import SECOND, micros

BERLIN = ZoneInfo("Europe/Berlin")
PATH = CountedPlace("person", "path", "aa")
POLYGONS = {"path": "aa"}
DAY = 86_400 * SECOND
MORNING = micros(datetime(2026, 6, 1, 6, 10, tzinfo=UTC))  # 8:10 in Berlin


def visit(book: HabitBook, at: int, seconds: float = 5, place: CountedPlace = PATH) -> None:
    """An event with two frames."""
    first = with_frame((), at, [place])
    book.count((), first, BERLIN)
    book.count(first, with_frame(first, at + round(seconds * SECOND), [place]), BERLIN)


def book_of(days: Sequence[int], seconds: float = 5, minutes: int = 0) -> HabitBook:
    """Somebody came on these days, counted from the first."""
    book = HabitBook({}, None)
    for day in days:
        visit(book, MORNING + day * DAY + minutes * 60 * SECOND, seconds)
    return book


def usual(book: HabitBook, day: int, minutes: int = 0) -> list[UsualBehaviour]:
    return list(book.habits_at(MORNING + day * DAY + minutes * 60 * SECOND, BERLIN, POLYGONS))


EVERY_THIRD = [0, 3, 6, 9, 12, 15, 18, 21]


class TestHabit:
    @pytest.mark.parametrize(
        ("days", "is_habit"),
        [
            (EVERY_THIRD, True),
            (EVERY_THIRD[1:], False),
            ([0, 3, 6, 9, 12, 15, 21], False),
            (range(8), False),
            ([0, *range(13, 20)], False),
            ([0, *range(14, 21)], True),
            ([0, 0, 0, 0, 0, 0, 0, 20], False),
        ],
    )
    def test_needs_eight_days_over_three_weeks(self, days: Sequence[int], is_habit: bool) -> None:
        found = usual(book_of(days), 22)
        assert found == (
            [UsualBehaviour("person", "path", CountedBehaviour.PASSING, len(set(days)))] if is_habit else []
        )

    def test_needs_the_same_behaviour(self) -> None:
        book = book_of(EVERY_THIRD[:4])
        for day in EVERY_THIRD[4:]:
            visit(book, MORNING + day * DAY, 21)
        assert usual(book, 22) == []
        assert [one.behaviour for one in usual(book_of(EVERY_THIRD, 20.0), 22)] == [CountedBehaviour.PASSING]
        assert [one.behaviour for one in usual(book_of(EVERY_THIRD, 20.1), 22)] == [CountedBehaviour.STAYING]

    def test_is_read_from_28_days_before_the_own_one(self) -> None:
        for day, seen in ((22, 8), (28, 8), (29, 7)):
            counted = dict.fromkeys(_buckets(book_of(EVERY_THIRD)), 1)
            book = HabitBook(counted, None)
            days = {bucket.day for bucket in counted}
            found = usual(book, day)
            assert bool(found) is (seen == 8), (day, days)
        book = book_of([*EVERY_THIRD[:-1], 22])
        assert usual(book, 22) == []
        assert len(usual(book, 23)) == 1

    def test_is_of_the_hour(self) -> None:
        book = book_of(EVERY_THIRD)
        assert [bool(usual(book, 22, minutes)) for minutes in (-60, -30, 0, 30, 50)] == [
            False,
            True,
            True,
            True,
            False,
        ]

    def test_is_of_the_zone_as_it_is_drawn_now(self) -> None:
        book = book_of(EVERY_THIRD)
        at = MORNING + 22 * DAY
        assert book.habits_at(at, BERLIN, {"path": "bb"}) == []
        assert book.habits_at(at, BERLIN, {}) == []
        square = Polygon(((0, 0), (1, 0), (1, 1)))
        assert polygon_digest(square) != polygon_digest(Polygon(((0, 0), (1, 0), (1, 0.99))))

    def test_an_event_of_an_earlier_day_is_compared_with_nothing(self) -> None:
        for days, is_habit in ((EVERY_THIRD, True), ([*EVERY_THIRD, 23], False)):
            assert bool(usual(book_of(days), 22)) is is_habit

    def test_a_late_frame_moves_what_was_counted(self) -> None:
        book = HabitBook({}, None)
        first = with_frame((), MORNING, [PATH])
        book.count((), first, BERLIN)
        earlier = with_frame(first, MORNING - 11 * 60 * SECOND, [PATH])
        book.count(first, earlier, BERLIN)
        assert sorted(number for number in book.added.values()) == [0, 1]
        (bucket,) = _buckets(book)
        assert (bucket.half_hour, bucket.behaviour) == (15, CountedBehaviour.STAYING)


def _buckets(book: HabitBook) -> set[Bucket]:
    return {bucket for bucket, number in book.added.items() if number > 0}


def test_local_days_follow_the_clocks() -> None:
    """Also where they are put forward."""
    summer = micros(datetime(2026, 3, 28, 7, 10, tzinfo=UTC))
    assert local_half_hour(summer, BERLIN) == (date(2026, 3, 28), 16)
    assert local_half_hour(summer + DAY - 3600 * SECOND, BERLIN) == (date(2026, 3, 29), 16)
    assert window_of(date(2026, 3, 29), 0)[2:] == (0, 1)
    assert window_of(date(2026, 3, 29), 47)[2:] == (46, 47)


def test_stays_are_bounded_and_stored_as_they_are() -> None:
    stays: Stays = ()
    for n in range(2 * MOST_STAYS):
        stays = with_frame(stays, n, [CountedPlace("person", f"zone-{n}", "aa")])
    assert len(stays) == MOST_STAYS
    assert load_stays(dump_stays(stays)) == stays
    assert dump_stays(()) == "[]"


PLACES = [PATH, CountedPlace("car", "path", "aa"), CountedPlace("person", "door", "bb")]
FRAMES = st.lists(
    st.tuples(
        st.integers(0, 5),  # event
        st.sampled_from([0, 0, 1, 2, 27, 28, 29, 40]),  # day
        st.sampled_from([0, 5, 25, 1800, 15 * 3600 + 3000]),  # second
        st.sets(st.sampled_from(PLACES)),
    ),
    max_size=25,
)


@given(FRAMES, st.lists(st.integers(0, 25), max_size=6))
def test_does_not_depend_on_batches(
    frames: list[tuple[int, int, int, set[CountedPlace]]], cuts: list[int]
) -> None:
    """As the store does it: a book for each batch, of what the batches before have written, where rows before
    the window are dropped; an event keeps to the day on which it began."""

    def run(borders: Sequence[int]) -> tuple[object, ...]:
        table: Counter[Bucket] = Counter()
        stays: dict[int, Stays] = {}
        days: dict[int, int] = {}
        found = []
        for start, end in pairwise(borders):
            newest = max((bucket.day for bucket in table), default=None)
            book = HabitBook({bucket: n for bucket, n in table.items() if n}, newest)
            for event, day, second, places in frames[start:end]:
                at = MORNING + days.setdefault(event, day) * DAY + second * SECOND
                if event not in stays:
                    found.append(book.habits_at(at, BERLIN, POLYGONS))
                before = stays.get(event, ())
                stays[event] = with_frame(before, at, places)
                book.count(before, stays[event], BERLIN)
            for bucket, number in book.added.items():
                table[bucket] += number
            if book.has_moved:
                table = Counter({b: n for b, n in table.items() if b.day >= book.oldest_day})
        assert all(number >= 0 for number in table.values())
        return found, table

    borders = [0, *sorted(min(cut, len(frames)) for cut in cuts), len(frames)]
    assert run(borders) == run(range(len(frames) + 1))
    assert WINDOW_DAYS == 28
