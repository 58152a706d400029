"""The times in the names that cameras and recorders give their files, and the digits that are none."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_svc.formats.time_in_name import time_in_name

AT, MINUTE = datetime(2024, 5, 1, 15, 3, 4), datetime(2024, 5, 1, 15, 3)
MILLISECONDS = AT.replace(microsecond=123_000)

MAKERS = {
    "Hikvision": ("192.168.1.64_01_20240501150304123_MOTION_DETECTION.jpg", MILLISECONDS),
    "Hikvision NVR": ("ch01_20240501150304.mp4", AT),
    "Dahua clip": ("2024-05-01/001/dav/15/15.03.04-15.03.59[M][0@0][0].mp4", AT),
    "Dahua photo": ("4C01234PAZ/2024-05-01/001/jpg/15/03/04[M][0@0][0].jpg", AT),
    "Amcrest": ("AMC0123456789/2024-05-01/pic_001/15.03.04[M][0@0][0].jpg", AT),
    "Reolink": ("RLC-810A_00_20240501150304.mp4", AT),
    "Reolink by date": ("2024/05/01/Front_01_20240501150304.mp4", AT),
    "Axis": ("axis-ACCC8E012345/20240501/15/20240501_150304_A1B2_ACCC8E012345/20240501_150304_5678.mkv", AT),
    "Axis photo": ("image2024-05-01_15-03-04-123_01.jpg", AT),
    "Foscam": ("FI9900P_00626E123456/record/MDalarm_20240501_150304.mkv", AT),
    "Foscam photo": ("FI9900P_00626E123456/snap/MDAlarm_20240501-150304.jpg", AT),
    "Tapo": ("Front_20240501_150304_tp00012.mp4", AT),
    "Ubiquiti": ("FrontDoor_2024-05-01T15-03-04.mp4", AT),
    "Wyze": ("record/20240501/15/03.mp4", MINUTE),
    "Eufy": ("T8113N0123456789_20240501150304.mp4", AT),
    "Ring": ("Ring_FrontDoor_2024-05-01_15-03-04.mp4", AT),
    "Blink": ("G8T1_0001_2024-05-01T15-03-04.mp4", AT),
    "Yi": ("2024Y05M01D15H/E03M04S60.mp4", AT),
    "Xiaomi": ("2024050115/03M04S_1714568584.mp4", AT),
    "D-Link": ("video_20240501_150304.avi", AT),
    "Android": ("VID_20240501_150304.mp4", AT),
    "Samsung": ("20240501_150304.mp4", AT),
    "DJI": ("DJI_20240501150304_0001_D.MP4", AT),
    "Viofo": ("2024_0501_150304_001.MP4", AT),
    "Tesla": ("2024-05-01_15-03-04-front.mp4", AT),
    "motion": ("01-20240501150304-05.jpg", AT),
    "motionEye": ("2024-05-01/15-03-04.mp4", AT),
    "Blue Iris": ("Cam1.20240501_150304.1234567-1.mp4", AT),
    "Blue Iris, twelve hours": ("Cam1 2024-05-01 03.03.04.123 PM.mp4", MILLISECONDS),
    "Synology": ("20240501PM/Front-20240501-150304-1714568584.mp4", AT),
    "macOS": ("Screen Recording 2024-05-01 at 15.03.04.mov", AT),
    "ISO 8601": ("2024-05-01T15:03:04.mp4", AT),
}


@pytest.mark.parametrize(("path", "local"), MAKERS.values(), ids=MAKERS)
def test_the_names_of_makers(path: str, local: datetime) -> None:
    found = time_in_name(path)
    assert found is not None
    assert (found.local, found.offset) == (local, None)


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("PXL_20240501_150304123.mp4", timedelta(0)),  # a Pixel phone
        ("2024-05-01T15-03-04Z.mp4", timedelta(0)),
        ("20240501T150304Z_door.jpg", timedelta(0)),
        ("2024-05-01 15.03.04 UTC.mp4", timedelta(0)),
        ("2024-05-01T15-03-04+02:00.mp4", timedelta(hours=2)),
        ("2024-05-01T15-03-04-05:30.mp4", -timedelta(hours=5, minutes=30)),
        ("20240501_150304+0200.mp4", timedelta(hours=2)),
        ("20240501_150304-0500.mp4", None),  # a serial number, perhaps
        ("20240501_150304_Zoo.mp4", None),
    ],
)
def test_a_name_may_state_its_offset(name: str, offset: timedelta | None) -> None:
    found = time_in_name(name)
    assert found is not None
    assert found.offset == offset


@pytest.mark.parametrize(
    "path",
    [
        "1714568584.mp4",  # seconds since 1970
        "1714568584123.mp4",  # and milliseconds: Arlo
        "front_door-1714568584.123456-abc123.mp4",  # Frigate
        "RPReplay_Final1714568584.MP4",
        "IMG_1234.MOV",  # iPhone
        "GX010123.MP4",  # GoPro
        "DSC_20240.jpg",
        "hiv00012.mp4",
        "VID-20240501-WA0001.mp4",  # a day without a time
        "20240501.mp4",
        "20240501/IMG_150304.jpg",
        "2024-05-01/192.168.1.64.jpg",
        "2024-05-01/10.20.30.40.jpg",
        "192.168.20.24_05-01.jpg",
        "door_1920x1080.mp4",
        "door_2024x1080_150304.mp4",
        "SN20240501150304999.mp4"[:-4] + "1234.mp4",  # a longer number
        "120240501150304.mp4",
        "2024050115030405.mp4",
        "05-01-2024_15-03-04.mp4",  # the fifth of January, or the first of May
        "01052024150304.mp4",
        "5-1-2024, 3.03.04 PM.mp4",
        "20240230_150304.mp4",  # no such day
        "20241301_150304.mp4",
        "20240501_250304.mp4",
        "20240501_156004.mp4",
        "19850501_150304.mp4",
        "2024-05-01/15-03-04/picture.jpg",  # a folder for each event
        "",
        "2024050115030" * 100 + ".mp4",
        "a/" * 2000 + "20240501_150304.mp4",
    ],
)
def test_other_digits_are_no_times(path: str) -> None:
    assert time_in_name(path) is None


def test_of_two_times_the_first_counts() -> None:
    for name in ("20240501_150304-20240501_150404.mp4", "20240230_150304_20240501_150304.mp4"):
        found = time_in_name(name)
        assert found is not None
        assert found.local == AT


@pytest.mark.parametrize("hour", range(24))
def test_twelve_hours(hour: int) -> None:
    local = AT.replace(hour=hour)
    found = time_in_name(f"{local:%Y-%m-%d_%I-%M-%S%p}.mp4")
    assert found is not None
    assert found.local == local


@given(st.text(st.sampled_from("0123456789-_./:TZAPMhms[]@ 2024"), max_size=200))
def test_any_name_gives_a_time_or_none(path: str) -> None:
    found = time_in_name(path)
    assert found is None or 2000 <= found.local.year <= 2099
