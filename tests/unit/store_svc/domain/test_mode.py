"""The mode at any time: what schedules change, and what holds."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_svc.domain.mode import (
    HOME_LASTS,
    MANUAL,
    StoredModeChange,
    WeeklyChange,
    WeeklySchedule,
    latest_change,
)
from store_svc.domain.wall_clock import instant_of

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
# Zones that put their clocks forward by an hour at 2:00, by half an hour, at midnight, by a whole day, and
# back across midnight.
TRANSITIONS = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, 4, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    ("UTC", datetime(2026, 6, 1, tzinfo=UTC)),
]
clocks = st.builds(time, st.integers(0, 23), st.integers(0, 59))
transitions = st.sampled_from(TRANSITIONS)


def wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@given(transitions, st.integers(-1, 1), clocks)
def test_a_time_comes_when_the_clocks_first_show_it_or_skip_it(
    transition: tuple[str, datetime], days: int, clock: time
) -> None:
    zone = ZoneInfo(transition[0])
    day = transition[1].astimezone(zone).date() + days * DAY
    local, minute = datetime.combine(day, clock), transition[1] - 5 * DAY
    while wall(minute, zone) < local:
        minute += MINUTE
    assert instant_of(day, clock, zone) == minute


@pytest.mark.parametrize(
    ("day", "clock", "hour", "minute"),
    [
        (date(2026, 3, 29), time(2, 30), 1, 0),  # skipped
        (date(2026, 10, 25), time(2, 30), 0, 30),  # shown twice: the first time
        (date(2026, 3, 29), time(3, 0), 1, 0),
        (date(2026, 10, 25), time(3, 0), 2, 0),
    ],
)
def test_times_at_the_changes_to_and_from_summer_time(day: date, clock: time, hour: int, minute: int) -> None:
    assert instant_of(day, clock, BERLIN) == datetime.combine(day, time(hour, minute), UTC)


weekly = st.lists(
    st.builds(WeeklyChange, st.integers(1, 7), clocks, st.sampled_from(["home", "away", "night"])),
    max_size=6,
    unique_by=lambda one: (one.weekday, one.clock),
)


@given(transitions, weekly, st.integers(-12_000, 12_000), st.integers(-12_000, 12_000))
def test_the_changes_of_a_schedule(
    transition: tuple[str, datetime], changes: list[WeeklyChange], since: int, at: int
) -> None:
    """Against a simple list of all changes around."""
    zone, middle = ZoneInfo(transition[0]), transition[1]
    begin, now = middle + since * MINUTE, middle + at * MINUTE
    schedule = WeeklySchedule(begin, zone, tuple(changes))
    by_moment: dict[datetime, str] = {}
    for n in range(-30, 31):
        day = middle.date() + n * DAY
        for change in sorted(changes, key=lambda one: one.clock):
            if change.weekday == day.isoweekday():
                by_moment[instant_of(day, change.clock, zone)] = change.mode
    expected = [StoredModeChange(*pair) for pair in sorted(by_moment.items()) if pair[0] >= begin]
    past, future = [c for c in expected if c.at <= now], [c for c in expected if c.at > now]
    assert list(schedule.backwards(now)) == past[::-1]
    assert schedule.latest(now) == (past[-1] if past else None)
    assert schedule.following(now) == (future[0] if future else None)


def test_of_two_changes_that_the_clocks_skip_the_later_one_holds() -> None:
    """On 29 March 2026, from 2:00 to 3:00 in Berlin."""
    changes = (WeeklyChange(7, time(2, 10), "away"), WeeklyChange(7, time(2, 40), "night"))
    skipped = datetime(2026, 3, 29, 1, tzinfo=UTC)
    schedule = WeeklySchedule(skipped - 9 * DAY, BERLIN, changes)
    assert (
        schedule.following(skipped - MINUTE) == schedule.latest(skipped) == StoredModeChange(skipped, "night")
    )


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)  # a Monday


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def test_what_somebody_sets_holds_until_the_next_change_by_the_schedule() -> None:
    schedule = WeeklySchedule(at(-100), ZoneInfo("UTC"), (WeeklyChange(1, time(13), "away"),))
    stored = StoredModeChange(at(0), "night", MANUAL)
    assert latest_change(at(0.9), stored, schedule) is stored
    change = latest_change(at(1), stored, schedule)
    assert change == StoredModeChange(at(1), "away")
    both = StoredModeChange(at(1), "home", MANUAL)
    assert latest_change(at(1), both, schedule) is both


@pytest.mark.parametrize("year", [1, 9999])
def test_any_capture_time_can_be_looked_up(year: int) -> None:
    schedule = WeeklySchedule(
        datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("America/Los_Angeles"), (WeeklyChange(1, time(8), "away"),)
    )
    moment = datetime(year, 1 if year == 1 else 12, 2 if year == 1 else 30, tzinfo=UTC)
    latest = schedule.latest(moment)
    assert (latest is None) == (year == 1)


def test_home_lapses_and_nothing_else_does() -> None:
    for mode in ("home", "away", "night", "holiday"):
        change = StoredModeChange(NOON, mode, MANUAL)
        assert change.mode_at(NOON + HOME_LASTS - timedelta.resolution) == mode
        assert change.mode_at(NOON + HOME_LASTS) == ("" if mode == "home" else mode)
        assert change.mode_at(NOON + 1000 * DAY) == ("" if mode == "home" else mode)
