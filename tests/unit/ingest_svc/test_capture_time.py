"""When a photo was taken, and which source tells."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_svc.formats.capture_time import CaptureSource, CaptureTime, capture_time, instant
from ingest_svc.messages import timestamp
from mesh.image_metadata import ExifTime
from mesh.times import EARLIEST, LATEST
from store_svc.recording.record_fields import read_time

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def ns(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000


def when(
    *,
    exif: ExifTime | None = None,
    declared: datetime | None = None,
    mtime: datetime = NOW,
    ctime: datetime = NOW,
) -> CaptureTime:
    return capture_time(
        exif=exif, zone=BERLIN, mtime_ns=ns(mtime), ctime_ns=ns(ctime), now=NOW, declared=declared
    )


def test_the_best_source_wins() -> None:
    exif = ExifTime(datetime(2026, 7, 1, 10), timedelta(hours=2))
    declared, mtime = datetime(2026, 7, 1, 7, tzinfo=UTC), datetime(2026, 7, 1, 6, tzinfo=UTC)
    assert when(exif=exif, declared=declared, mtime=mtime) == CaptureTime(declared, CaptureSource.DECLARED)
    assert when(exif=exif, mtime=mtime) == CaptureTime(
        datetime(2026, 7, 1, 8, tzinfo=UTC), CaptureSource.EXIF
    )
    assert when(mtime=mtime) == CaptureTime(mtime, CaptureSource.MTIME)


def test_exif_without_offset_is_in_the_cameras_zone() -> None:
    summer, winter = ExifTime(datetime(2026, 6, 1, 12), None), ExifTime(datetime(2026, 1, 1, 12), None)
    assert when(exif=summer).at == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert when(exif=winter).at == datetime(2026, 1, 1, 11, tzinfo=UTC)


def test_a_time_one_day_ahead_is_plausible_and_a_later_one_is_not() -> None:
    mtime = NOW - timedelta(hours=1)
    at_most, beyond = NOW + timedelta(hours=24), NOW + timedelta(hours=24, seconds=1)
    assert when(declared=at_most, mtime=mtime).source is CaptureSource.DECLARED
    assert when(declared=beyond, mtime=mtime) == CaptureTime(mtime, CaptureSource.MTIME)
    assert when(declared=beyond, mtime=beyond, ctime=mtime) == CaptureTime(mtime, CaptureSource.CTIME)


def test_a_wrong_clock_of_the_host_on_arrival_does_not_make_the_camera_implausible() -> None:
    exif = ExifTime(datetime(2026, 7, 1, 11), timedelta(0))
    assert when(
        exif=exif, mtime=datetime(1970, 1, 1, tzinfo=UTC), ctime=datetime(1970, 1, 1, tzinfo=UTC)
    ) == (CaptureTime(datetime(2026, 7, 1, 11, tzinfo=UTC), CaptureSource.EXIF))


@pytest.mark.parametrize("at", [EARLIEST, LATEST])
def test_a_time_that_facts_cannot_represent_is_not_used(at: datetime) -> None:
    beyond = at + timedelta(microseconds=1 if at == LATEST else -1)
    exif, mtime = ExifTime(beyond.replace(tzinfo=None), timedelta(0)), NOW - timedelta(hours=1)
    assert when(declared=at, mtime=mtime, ctime=LATEST) == CaptureTime(at, CaptureSource.DECLARED)
    assert when(declared=beyond, mtime=mtime, ctime=LATEST) == CaptureTime(mtime, CaptureSource.MTIME)
    assert when(exif=exif, mtime=mtime, ctime=LATEST) == CaptureTime(mtime, CaptureSource.MTIME)


NANOSECONDS = st.integers(-(10**21), 10**21)


@given(
    st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
    st.one_of(st.none(), st.datetimes()),
    NANOSECONDS,
    NANOSECONDS,
)
@example(datetime(1, 1, 1, tzinfo=UTC), None, 0, 0)
@example(None, datetime(1, 1, 1), 0, 0)
@example(None, None, ns(datetime(1, 1, 1, tzinfo=UTC)), ns(datetime(9999, 12, 31, tzinfo=UTC)))
def test_every_capture_time_is_one_that_the_store_accepts(
    declared: datetime | None, exif: datetime | None, mtime_ns: int, ctime_ns: int
) -> None:
    captured = capture_time(
        declared=declared,
        exif=ExifTime(exif, None) if exif else None,
        zone=BERLIN,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        now=NOW,
    )
    assert captured.at.tzinfo is UTC
    read_time(timestamp(captured.at), "captured_at")


def test_instants_are_floored_to_the_microsecond() -> None:
    assert instant(1_999) == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert instant(10**30) is None


@given(st.datetimes(), st.one_of(st.none(), st.timedeltas(timedelta(hours=-24), timedelta(hours=24))))
def test_every_exif_time_gives_a_utc_time(local: datetime, offset: timedelta | None) -> None:
    assert when(exif=ExifTime(local, offset)).at.tzinfo is UTC
