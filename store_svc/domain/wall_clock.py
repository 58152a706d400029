"""When the clocks of a time zone show a time. Pure."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from mesh.problems import Invalid
from mesh.time_zones import is_time_zone

_SECOND = timedelta(seconds=1)


def time_zone_of(name: str) -> ZoneInfo:
    """Raises Invalid (BAD_TIME_ZONE) if it is not an IANA name."""
    if not is_time_zone(name):
        sentence = f"{name!r} is not an IANA time zone; an example is Europe/Berlin"
        raise Invalid(sentence, "BAD_TIME_ZONE", field="time_zone")
    return ZoneInfo(name)


def instant_of(day: date, clock: time, zone: tzinfo) -> datetime:
    """The first moment, in UTC, at which the clocks show this time of this day, or have skipped it."""
    local = datetime.combine(day, clock, zone)
    wall = local.replace(tzinfo=None)
    instant = local.astimezone(UTC)
    if _wall(instant, zone) == wall:
        return instant
    # The clocks skip it: between these two they are put forward.
    before, after = local.replace(fold=1).astimezone(UTC), instant
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if _wall(middle, zone) < wall:
            before = middle
        else:
            after = middle
    return after


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)
