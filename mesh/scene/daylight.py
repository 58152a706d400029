"""Whether it is day at a camera, by the sun over the place that the time zone database names for its time
zone.

A time zone is wider than that place, so the answer is right to within an hour or so around sunrise and
sunset. Pure, except that the database is read once.
"""

import re
from datetime import UTC, datetime
from enum import IntEnum
from functools import cache
from importlib.resources import files
from math import asin, atan2, cos, degrees, radians, sin
from zoneinfo import ZoneInfo

# The sun is so far below the horizon when street lamps have come on.
DARK_BELOW_DEGREES = -2.0
# Where the database has no place: dark from 20:00 to 7:00.
DARK_FROM, DARK_UNTIL = 20, 7
# The sun is so high that it is bright in the whole time zone and under clouds, too; where the database has no
# place, between these hours.
BRIGHT_ABOVE_DEGREES = 3.0
BRIGHT_FROM, BRIGHT_UNTIL = 9, 16

ISO_6709 = re.compile(r"([+-])(\d{2})(\d{2})(\d{2})?([+-])(\d{3})(\d{2})(\d{2})?")
J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)


class Light(IntEnum):
    """The numbers of lares.scene.v1.Light."""

    DAYLIGHT = 1
    DARK = 2


def light_at(time: datetime, time_zone: str) -> Light:
    """`time` is aware, and in the time zone `time_zone` (an IANA name)."""
    place = _places().get(time_zone)
    if place is None:
        dark = time.hour >= DARK_FROM or time.hour < DARK_UNTIL
    else:
        dark = sun_elevation(time, *place) < DARK_BELOW_DEGREES
    return Light.DARK if dark else Light.DAYLIGHT


def is_broad_daylight(time: datetime, time_zone: str) -> bool:
    """Whether a picture that was taken then shows what there is, by the light. `time` is aware."""
    place = _places().get(time_zone)
    if place is None:
        return BRIGHT_FROM <= time.astimezone(ZoneInfo(time_zone)).hour < BRIGHT_UNTIL
    return sun_elevation(time, *place) >= BRIGHT_ABOVE_DEGREES


def sun_elevation(time: datetime, latitude: float, longitude: float) -> float:
    """Degrees above the horizon, to about 0.1, without refraction.

    The low-precision formulas of the Astronomical Almanac for the sun's place, and mean sidereal time.
    """
    days = (time - J2000).total_seconds() / 86400
    anomaly = radians(357.528 + 0.9856003 * days)
    longitude_of_sun = radians(280.460 + 0.9856474 * days + 1.915 * sin(anomaly) + 0.020 * sin(2 * anomaly))
    obliquity = radians(23.439 - 0.0000004 * days)
    right_ascension = atan2(cos(obliquity) * sin(longitude_of_sun), cos(longitude_of_sun))
    declination = asin(sin(obliquity) * sin(longitude_of_sun))
    sidereal = radians((18.697374558 + 24.06570982441908 * days) % 24 * 15 + longitude)
    hour_angle = sidereal - right_ascension
    north = radians(latitude)
    return degrees(asin(sin(north) * sin(declination) + cos(north) * cos(declination) * cos(hour_angle)))


@cache
def _places() -> dict[str, tuple[float, float]]:
    """Latitude and longitude in degrees, by the time zone's name."""
    table = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if line and not line.startswith("#"))
    return {row[2]: _coordinates(row[1]) for row in rows}


def _coordinates(text: str) -> tuple[float, float]:
    match = ISO_6709.fullmatch(text)
    assert match, text
    north, *latitude, east, degrees_, minutes, seconds = match.groups()
    return _degrees(north, *latitude), _degrees(east, degrees_, minutes, seconds)


def _degrees(sign: str, whole: str, minutes: str, seconds: str | None) -> float:
    value = int(whole) + int(minutes) / 60 + int(seconds or 0) / 3600
    return -value if sign == "-" else value
