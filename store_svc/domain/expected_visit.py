"""Whether somebody is expected at a camera at some time, by what the clocks on the wall show. Pure."""

from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class PlannedVisit:
    """One expected visit. Empty sets and missing dates set no condition.

    It lasts from `start` to `end`, exclusive; after midnight if `end` is earlier, and all day if both are the
    same. Weekdays (1 is Monday) and dates are those of the day on which it begins.
    """

    id: str
    name: str
    labels: tuple[str, ...]
    camera_ids: frozenset[str]
    zone_ids: tuple[str, ...]
    weekdays: frozenset[int]
    start: time
    end: time
    first_day: date | None
    last_day: date | None
    zone: ZoneInfo


def matches(visit: PlannedVisit, camera_id: str, captured_at: datetime) -> bool:
    """Whether the visit is expected at this camera at this time."""
    if visit.camera_ids and camera_id not in visit.camera_ids:
        return False
    local = captured_at.astimezone(visit.zone)
    clock, today = local.time(), local.toordinal()
    if visit.start < visit.end:
        return visit.start <= clock < visit.end and _begins_on(visit, today)
    if visit.start == visit.end:
        return _begins_on(visit, today)
    return (clock >= visit.start and _begins_on(visit, today)) or (
        clock < visit.end and _begins_on(visit, today - 1)
    )


def _begins_on(visit: PlannedVisit, day: int) -> bool:
    """`day` is a date's ordinal, because there is no date before year 1."""
    weekday = (day - 1) % 7 + 1
    return (
        (not visit.weekdays or weekday in visit.weekdays)
        and (visit.first_day is None or visit.first_day.toordinal() <= day)
        and (visit.last_day is None or day <= visit.last_day.toordinal())
    )
