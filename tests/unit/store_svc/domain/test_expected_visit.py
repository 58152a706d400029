"""When a visit is expected."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_svc.domain.expected_visit import PlannedVisit, matches

BERLIN = ZoneInfo("Europe/Berlin")
ANY = PlannedVisit(
    id="1",
    name="Post",
    labels=(),
    camera_ids=frozenset(),
    zone_ids=(),
    weekdays=frozenset(),
    start=time(0),
    end=time(0),
    first_day=None,
    last_day=None,
    zone=BERLIN,
)
MORNING = replace(ANY, start=time(9), end=time(11))
NIGHT = replace(ANY, start=time(22), end=time(6))


def local(day: int, hour: int, minute: int = 0, *, fold: int = 0, month: int = 6) -> datetime:
    """A time in 2026, at Berlin, in UTC."""
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN, fold=fold).astimezone(UTC)


def test_it_is_expected_at_its_cameras_only() -> None:
    visit = replace(ANY, camera_ids=frozenset({"front"}))
    assert matches(visit, "front", local(1, 12))
    assert not matches(visit, "back", local(1, 12))
    assert matches(ANY, "back", local(1, 12))


@pytest.mark.parametrize(
    ("hour", "minute", "expected"), [(8, 59, False), (9, 0, True), (10, 59, True), (11, 0, False)]
)
def test_it_lasts_from_the_first_time_to_the_second(hour: int, minute: int, expected: bool) -> None:
    assert matches(MORNING, "front", local(1, hour, minute)) is expected


@pytest.mark.parametrize(
    ("day", "hour", "expected"),
    [(1, 21, False), (1, 22, True), (1, 23, True), (2, 0, True), (2, 5, True), (2, 6, False), (2, 22, False)],
)
def test_after_midnight_the_day_on_which_it_begins_counts(day: int, hour: int, expected: bool) -> None:
    """The 1st of June 2026 is a Monday."""
    assert matches(replace(NIGHT, weekdays=frozenset({1})), "front", local(day, hour)) is expected
    only_that_day = replace(NIGHT, first_day=date(2026, 6, 1), last_day=date(2026, 6, 1))
    assert matches(only_that_day, "front", local(day, hour)) is expected


def test_dates_are_inclusive() -> None:
    visit = replace(ANY, first_day=date(2026, 6, 2), last_day=date(2026, 6, 3))
    days = [day for day in range(1, 6) if matches(visit, "front", local(day, 12))]
    assert days == [2, 3]


def test_the_clocks_on_the_wall_decide_when_they_change() -> None:
    """What they skip does not come, and what they show twice comes twice."""
    visit = replace(ANY, start=time(2, 15), end=time(2, 45))
    night = [local(28, 12, month=3) + timedelta(minutes=n) for n in range(24 * 60)]
    assert sum(matches(visit, "front", moment) for moment in night) == 0
    night = [local(24, 12, month=10) + timedelta(minutes=n) for n in range(25 * 60)]
    assert sum(matches(visit, "front", moment) for moment in night) == 60
    assert matches(visit, "front", local(25, 2, 20, month=10))
    assert matches(visit, "front", local(25, 2, 20, fold=1, month=10))


clocks = st.builds(time, st.integers(0, 23), st.integers(0, 59))
days = st.dates(date(2026, 3, 1), date(2026, 11, 30))


@given(clocks, clocks, st.sets(st.integers(1, 7)), days, days, st.integers(0, 275 * 24 * 60))
def test_a_visit_is_the_times_of_its_days(
    start: time, end: time, weekdays: set[int], first: date, last: date, minute: int
) -> None:
    """Against a list of all days, by the clock on the wall."""
    visit = replace(ANY, start=start, end=end, weekdays=frozenset(weekdays), first_day=first, last_day=last)
    moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute)
    shown = moment.astimezone(BERLIN).replace(tzinfo=None)
    expected = False
    for back in (0, 1):
        day = shown.date() - timedelta(days=back)
        begin = datetime.combine(day, start)
        stop = datetime.combine(day + timedelta(days=end <= start), end)
        if start == end:
            begin, stop = datetime.combine(day, time(0)), datetime.combine(day + timedelta(days=1), time(0))
        on_day = first <= day <= last and (not weekdays or day.isoweekday() in weekdays)
        expected = expected or (on_day and begin <= shown < stop)
    assert matches(visit, "front", moment) is expected


@pytest.mark.parametrize("moment", [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
def test_any_capture_time_can_be_looked_up(moment: datetime, zone: str) -> None:
    assert matches(replace(ANY, zone=ZoneInfo(zone)), "front", moment)
    matches(replace(NIGHT, zone=ZoneInfo(zone)), "front", moment)
