from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest

from mesh.scene.daylight import Light, is_broad_daylight, light_at, sun_elevation


@pytest.mark.parametrize(
    ("time", "latitude", "longitude", "elevation"),
    [
        # Noon at the equator at the equinox, midnight sun, polar night, and noon at Greenwich in June.
        (datetime(2026, 3, 20, 12, 7, tzinfo=UTC), 0.0, 0.0, 89.7),
        (datetime(2026, 6, 21, 0, 0, tzinfo=UTC), 71.0, 0.0, 4.4),
        (datetime(2026, 12, 21, 12, 0, tzinfo=UTC), 71.0, 0.0, -4.4),
        (datetime(2026, 6, 21, 12, 2, tzinfo=UTC), 51.48, 0.0, 61.96),
    ],
)
def test_the_sun_stands_where_it_should(
    time: datetime, latitude: float, longitude: float, elevation: float
) -> None:
    assert sun_elevation(time, latitude, longitude) == pytest.approx(elevation, abs=0.4)


@pytest.mark.parametrize(
    ("time_zone", "local", "light"),
    [
        ("Europe/Berlin", datetime(2026, 6, 21, 21, 0), Light.DAYLIGHT),
        ("Europe/Berlin", datetime(2026, 12, 21, 17, 30), Light.DARK),
        ("Australia/Sydney", datetime(2026, 12, 21, 19, 30), Light.DAYLIGHT),
        ("America/Los_Angeles", datetime(2026, 6, 21, 3, 0), Light.DARK),
        ("Etc/GMT+5", datetime(2026, 6, 21, 12, 0), Light.DAYLIGHT),
        ("Etc/GMT+5", datetime(2026, 6, 21, 22, 0), Light.DARK),
    ],
)
def test_dark_and_daylight(time_zone: str, local: datetime, light: Light) -> None:
    assert light_at(local.replace(tzinfo=ZoneInfo(time_zone)), time_zone) is light


@pytest.mark.parametrize(
    ("time_zone", "local", "bright"),
    [
        # The sun rises at 7:40 and sets at 18:05, to the minute, and is brighter than that by 25 minutes.
        ("Europe/Berlin", datetime(2026, 10, 15, 17, 35), True),
        ("Europe/Berlin", datetime(2026, 10, 15, 17, 55), False),
        ("Europe/Berlin", datetime(2026, 10, 15, 7, 45), False),
        ("Europe/Berlin", datetime(2026, 10, 15, 8, 5), True),
        ("Arctic/Longyearbyen", datetime(2026, 12, 21, 12, 0), False),
        ("UTC", datetime(2026, 6, 21, 8, 59), False),
        ("UTC", datetime(2026, 6, 21, 9, 0), True),
        ("UTC", datetime(2026, 6, 21, 16, 0), False),
    ],
)
def test_broad_daylight(time_zone: str, local: datetime, bright: bool) -> None:
    time = local.replace(tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
    assert is_broad_daylight(time, time_zone) is bright


def test_every_time_zone_has_an_answer() -> None:
    noon = datetime(2026, 3, 20, 12, tzinfo=UTC)
    for name in sorted(available_timezones()):
        assert light_at(noon.astimezone(ZoneInfo(name)), name) in Light
