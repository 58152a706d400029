"""The mode of the house at any time: from its stored changes and the schedule. Pure.

A change holds until the next one, by a caller or by the schedule. What a schedule changes is not stored: it
follows from the schedule, so the same history gives the same mode however late it is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from store_svc.domain.wall_clock import instant_of

# The numbers of lares.store.v1.ModeSource.
MANUAL, SCHEDULE = 1, 2

HOME = "home"
# For so long `home` counts. Whoever forgets it on the way to a holiday is protected again a day later.
HOME_LASTS = timedelta(hours=16)

_DAY = timedelta(days=1)
# A week, and a day on both sides: the local date of a change can differ from that of the moment asked for.
_DAYS_AHEAD = 9
_LAST_DAY = date(9999, 12, 20)


@dataclass(frozen=True, slots=True)
class StoredModeChange:
    """`mode` is empty if the mode was unset; `changed_by` is the name of the API key."""

    at: datetime
    mode: str
    source: int = SCHEDULE
    changed_by: str = ""

    @property
    def lapses_at(self) -> datetime | None:
        """When it counts as unset unless it is confirmed."""
        return self.at + HOME_LASTS if self.mode == HOME else None

    def mode_at(self, at: datetime) -> str:
        """The mode at a later time, if nothing has changed it since; empty if it has lapsed."""
        return "" if self.lapses_at and at >= self.lapses_at else self.mode


@dataclass(frozen=True, slots=True)
class WeeklyChange:
    """`weekday` counts from 1 (Monday)."""

    weekday: int
    clock: time
    mode: str


@dataclass(frozen=True)
class WeeklySchedule:
    """Changes of the mode in every week, from `since` on."""

    since: datetime
    zone: ZoneInfo
    changes: tuple[WeeklyChange, ...]

    def latest(self, at: datetime) -> StoredModeChange | None:
        """The last change until `at`, inclusive."""
        return next(self.backwards(at), None)

    def backwards(self, at: datetime) -> Iterator[StoredModeChange]:
        """The changes until `at`, inclusive, the last one first. Of those at one moment, because the clocks
        skip them, only the one with the latest local time."""
        if not self.changes or at < self.since:
            return
        before = at + timedelta.resolution
        day = min(at.astimezone(self.zone).date(), _LAST_DAY) + _DAY
        while True:
            for change in reversed(self._changes_on(day)):
                if change.at < self.since:
                    return
                if change.at < before:
                    before = change.at
                    yield change
            day -= _DAY

    def following(self, at: datetime) -> StoredModeChange | None:
        """The next change after `at`."""
        start = max(at, self.since).astimezone(self.zone).date() - _DAY
        days = (start + _DAY * n for n in range(_DAYS_AHEAD + 1))
        later = [one for day in days for one in self._changes_on(day) if one.at > at and one.at >= self.since]
        # Of those at one moment, the one with the latest local time, as in `backwards`.
        return [one for one in later if one.at == later[0].at][-1] if later else None

    def _changes_on(self, day: date) -> list[StoredModeChange]:
        """In the order of local time, which is also that of the moments."""
        weekday = day.isoweekday()
        today = sorted((one for one in self.changes if one.weekday == weekday), key=lambda one: one.clock)
        return [StoredModeChange(instant_of(day, one.clock, self.zone), one.mode) for one in today]


def latest_change(
    at: datetime, stored: StoredModeChange | None, schedule: WeeklySchedule | None
) -> StoredModeChange | None:
    """The change that holds at `at`. `stored` is the last stored one and `schedule` the one that applied
    then. A stored change wins over one by the schedule at the same moment."""
    scheduled = schedule.latest(at) if schedule else None
    if scheduled and (stored is None or scheduled.at > stored.at):
        return scheduled
    return stored
