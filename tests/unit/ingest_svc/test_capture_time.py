"""When a photo was taken, and which source tells."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_svc.formats.capture_time import CaptureSource, CaptureTime, ClipTimes, capture_time, instant
from ingest_svc.formats.time_in_name import NamedTime
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
    tolerance: timedelta | None = None,
    named: datetime | None = None,
    clip: ClipTimes | None = None,
) -> CaptureTime:
    return capture_time(
        named=NamedTime(named, None) if named else None,
        clip=clip,
        exif=exif,
        zone=BERLIN,
        mtime_ns=ns(mtime),
        ctime_ns=ns(ctime),
        now=NOW,
        declared=declared,
        tolerance=tolerance,
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


CLIPS = st.builds(
    ClipTimes,
    st.timedeltas(timedelta(0), timedelta(days=10**6)),
    st.one_of(st.none(), st.datetimes(max_value=datetime(2200, 1, 1), timezones=st.just(UTC))),
)


@given(
    st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
    st.one_of(st.none(), st.datetimes()),
    NANOSECONDS,
    NANOSECONDS,
    st.one_of(st.none(), st.datetimes()),
    st.one_of(st.none(), CLIPS),
)
@example(datetime(1, 1, 1, tzinfo=UTC), None, 0, 0, None, None)
@example(None, datetime(1, 1, 1), 0, 0, None, None)
@example(None, None, ns(datetime(1, 1, 1, tzinfo=UTC)), ns(datetime(9999, 12, 31, tzinfo=UTC)), None, None)
def test_every_capture_time_is_one_that_the_store_accepts(
    declared: datetime | None,
    exif: datetime | None,
    mtime_ns: int,
    ctime_ns: int,
    named: datetime | None,
    clip: ClipTimes | None,
) -> None:
    captured = capture_time(
        declared=declared,
        exif=ExifTime(exif, None) if exif else None,
        zone=BERLIN,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        now=NOW,
        named=NamedTime(named, None) if named else None,
        clip=clip,
    )
    assert captured.at.tzinfo is UTC
    read_time(timestamp(captured.at), "captured_at")


def test_instants_are_floored_to_the_microsecond() -> None:
    assert instant(1_999) == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert instant(10**30) is None


@given(st.datetimes(), st.one_of(st.none(), st.timedeltas(timedelta(hours=-24), timedelta(hours=24))))
def test_every_exif_time_gives_a_utc_time(local: datetime, offset: timedelta | None) -> None:
    assert when(exif=ExifTime(local, offset)).at.tzinfo is UTC


def shows(local: str, offset: timedelta | None = timedelta(0)) -> ExifTime:
    """A camera's clock, by default in UTC."""
    return ExifTime(datetime.fromisoformat(local), offset)


@pytest.mark.parametrize(
    "local",
    [
        "1970-01-01 00:00:00",
        "1970-01-20 06:00:00",
        "1969-12-31 19:00:07",  # the epoch, in a zone west of UTC
        "1980-01-01 00:00:00",
        "1980-01-04 12:00:00",
        "1999-12-31 16:00:00",
        "2000-01-01 00:00:30",
        "2000-01-30 00:00:00",
        "2010-01-01 08:00:00",  # the epoch of UTC, in China
        "2016-01-01 00:12:00",
        "2016-01-04 23:00:00",
        "2026-01-01 00:00:01",
    ],
)
@pytest.mark.parametrize("offset", [None, timedelta(0), timedelta(hours=8), timedelta(hours=-11)])
def test_a_clock_that_was_never_set_is_a_claim_and_the_arrival_counts(
    local: str, offset: timedelta | None
) -> None:
    exif, arrived = shows(local, offset), NOW - timedelta(seconds=3)
    captured = when(exif=exif, ctime=arrived, mtime=NOW - timedelta(hours=1))
    assert (captured.at, captured.source) == (arrived, CaptureSource.CTIME)
    zone = UTC if offset is not None else BERLIN
    assert captured.claimed == (exif.local - (offset or timedelta(0))).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    "written", ["1970-01-01 00:00:00", "1969-12-31 20:00:00", "1980-01-01 00:00:00", "2000-01-03 07:00:00"]
)
def test_the_time_of_a_file_is_not_believed_at_the_epoch_of_a_system(written: str) -> None:
    """That of a camera without EXIF, which writes to a share or states the time over FTP."""
    mtime = datetime.fromisoformat(written).replace(tzinfo=UTC)
    assert when(mtime=mtime) == CaptureTime(NOW, CaptureSource.CTIME, mtime)


@pytest.mark.parametrize("written", ["1999-05-01 00:00:00", "2016-01-01 00:00:00", "2026-01-01 00:00:00"])
def test_the_time_of_a_file_in_an_archive_without_exif_is_believed(written: str) -> None:
    mtime = datetime.fromisoformat(written).replace(tzinfo=UTC)
    assert when(mtime=mtime) == CaptureTime(mtime, CaptureSource.MTIME)


@pytest.mark.parametrize("local", ["2000-01-01 00:00:30", "1980-01-02 00:00:00", "2016-01-01 10:00:00"])
def test_a_file_that_was_written_by_the_same_unset_clock_confirms_nothing(local: str) -> None:
    exif = shows(local)
    captured = when(exif=exif, mtime=exif.local.replace(tzinfo=UTC))
    assert (captured.at, captured.claimed) == (NOW, exif.local.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "local",
    [
        "1998-08-17 10:00:00",
        "1970-05-01 00:00:00",
        "2000-03-01 00:00:00",
        "2015-12-31 23:59:59",
        "2016-01-05 00:00:00",
        "2019-07-14 12:00:00",
        "2026-01-05 00:00:00",
        "2026-06-30 12:00:00",
    ],
)
def test_an_archive_that_is_copied_in_keeps_its_times(local: str) -> None:
    exif = shows(local)
    assert when(exif=exif) == CaptureTime(exif.local.replace(tzinfo=UTC), CaptureSource.EXIF)


def test_an_archive_of_the_new_year_keeps_times_that_its_files_confirm() -> None:
    exif = shows("2019-01-02 21:00:00")
    at = exif.local.replace(tzinfo=UTC)
    assert when(exif=exif).source is CaptureSource.CTIME
    assert when(exif=exif, mtime=at + timedelta(hours=23)) == CaptureTime(at, CaptureSource.EXIF)
    assert when(exif=exif, mtime=at + timedelta(hours=25)).source is CaptureSource.CTIME


def test_a_photo_that_arrives_soon_after_the_new_year_is_believed() -> None:
    at = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    exif = shows("2026-01-01 00:05:00")
    assert when(exif=exif, ctime=at + timedelta(days=30)).source is CaptureSource.EXIF
    assert when(exif=exif, ctime=at + timedelta(days=30, seconds=1)).source is CaptureSource.CTIME


def test_what_an_uploader_declares_is_not_believed_at_the_epoch_of_a_system_only() -> None:
    boot = datetime(1970, 1, 1, 0, 0, 40, tzinfo=UTC)
    assert when(declared=boot) == CaptureTime(NOW, CaptureSource.CTIME, boot)
    new_year = datetime(2019, 1, 1, 12, tzinfo=UTC)
    assert when(declared=new_year) == CaptureTime(new_year, CaptureSource.DECLARED)


def test_a_tolerance_is_for_all_that_the_camera_claims() -> None:
    hour = timedelta(hours=1)
    near, far = shows("2026-07-01 11:00:00"), shows("2026-07-01 10:59:59")
    assert when(exif=near, tolerance=hour).source is CaptureSource.EXIF
    assert when(exif=far, tolerance=hour) == CaptureTime(
        NOW, CaptureSource.CTIME, far.local.replace(tzinfo=UTC)
    )
    ahead = shows("2026-07-01 13:00:01")
    assert when(exif=ahead, tolerance=hour).source is CaptureSource.CTIME
    old = NOW - 2 * hour
    assert when(mtime=old, tolerance=hour) == CaptureTime(NOW, CaptureSource.CTIME, old)
    assert when(declared=old, tolerance=hour) == CaptureTime(old, CaptureSource.DECLARED)


SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
BERLIN_NOW = datetime(2026, 7, 1, 14)  # NOW


def test_a_time_in_the_name_comes_after_exif_and_before_the_mtime() -> None:
    named, mtime = BERLIN_NOW - timedelta(minutes=9), NOW - timedelta(minutes=5)
    assert when(named=named, mtime=mtime) == CaptureTime(NOW - 9 * MINUTE, CaptureSource.FILE_NAME)
    exif = ExifTime(BERLIN_NOW - 8 * MINUTE, None)
    assert when(named=named, exif=exif, mtime=mtime).source is CaptureSource.EXIF
    declared = NOW - 7 * MINUTE
    assert when(named=named, declared=declared, mtime=mtime).source is CaptureSource.DECLARED


def test_a_time_in_the_name_that_lies_behind_the_mtime_is_not_that_of_the_file() -> None:
    """As if the camera was in a zone further east than the configured one."""
    mtime = NOW - timedelta(minutes=10)
    at_most = BERLIN_NOW - timedelta(minutes=8)
    assert when(named=at_most, mtime=mtime).source is CaptureSource.FILE_NAME
    assert when(named=at_most + SECOND, mtime=mtime) == CaptureTime(mtime, CaptureSource.MTIME)


def test_a_time_in_the_name_may_be_old_because_files_arrive_late() -> None:
    named = datetime(2024, 5, 6, 12)
    assert when(named=named).source is CaptureSource.FILE_NAME
    assert when(named=named, tolerance=timedelta(hours=1)).source is CaptureSource.CTIME


@pytest.mark.parametrize("local", ["2000-01-01 00:00:30", "2016-01-01 00:12:00", "2026-01-01 00:00:01"])
def test_a_name_of_a_clock_that_was_never_set_is_a_claim(local: str) -> None:
    captured = when(named=datetime.fromisoformat(local), mtime=NOW)
    assert (captured.at, captured.source) == (NOW, CaptureSource.CTIME)
    assert captured.claimed is not None


def test_a_name_counts_where_the_mtime_says_nothing() -> None:
    mtime = datetime(1970, 1, 1, tzinfo=UTC)
    assert when(named=BERLIN_NOW - MINUTE, mtime=mtime) == CaptureTime(NOW - MINUTE, CaptureSource.FILE_NAME)


@pytest.mark.parametrize(
    ("local", "written", "expected"),
    [
        # 02:30 exists twice on 25 October 2025, at 00:30 and at 01:30 UTC.
        ("2025-10-26 02:30:00", "2025-10-26 00:31:00", "2025-10-26 00:30:00"),
        ("2025-10-26 02:30:00", "2025-10-26 01:31:00", "2025-10-26 01:30:00"),
        ("2025-10-26 02:30:00", "2025-10-27 12:00:00", "2025-10-26 01:30:00"),
        # 02:30 does not exist on 29 March 2026: a clock that was not changed yet, or was changed too early.
        ("2026-03-29 02:30:00", "2026-03-29 01:31:00", "2026-03-29 01:30:00"),
        ("2026-03-29 02:30:00", "2026-03-29 00:31:00", "2026-03-29 00:30:00"),
    ],
)
def test_hours_that_exist_twice_or_not_at_all_are_read_by_the_mtime(
    local: str, written: str, expected: str
) -> None:
    at, mtime = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (expected, written))
    captured = when(named=datetime.fromisoformat(local), mtime=mtime)
    assert captured == CaptureTime(at, CaptureSource.FILE_NAME)


LENGTH = timedelta(minutes=20)
BEGUN = NOW - timedelta(hours=5)
ENDED = BEGUN + LENGTH
BERLIN_OFFSET = timedelta(hours=2)


@pytest.mark.parametrize(
    ("created", "mtime", "expected"),
    [
        (BEGUN, ENDED, (BEGUN, CaptureSource.CONTAINER)),
        (ENDED, ENDED + 4 * MINUTE, (BEGUN, CaptureSource.CONTAINER)),
        (BEGUN + BERLIN_OFFSET, ENDED, (BEGUN, CaptureSource.CONTAINER_LOCAL)),
        (ENDED + BERLIN_OFFSET, ENDED, (BEGUN, CaptureSource.CONTAINER_LOCAL)),
        # Nothing agrees: when it began, in UTC, or in local time if UTC cannot be.
        (BEGUN, NOW, (BEGUN, CaptureSource.CONTAINER)),
        (NOW + MINUTE * 30, NOW, (NOW + MINUTE * 30 - BERLIN_OFFSET, CaptureSource.CONTAINER_LOCAL)),
        (NOW + BERLIN_OFFSET * 2, NOW, (NOW - LENGTH, CaptureSource.MTIME_LESS_DURATION)),
        (datetime(1970, 1, 1, tzinfo=UTC), NOW, (NOW - LENGTH, CaptureSource.MTIME_LESS_DURATION)),
        (datetime(1904, 1, 1, tzinfo=UTC), NOW, (NOW - LENGTH, CaptureSource.MTIME_LESS_DURATION)),
        (None, ENDED, (BEGUN, CaptureSource.MTIME_LESS_DURATION)),
    ],
)
def test_the_creation_time_of_a_container(
    created: datetime | None, mtime: datetime, expected: tuple[datetime, CaptureSource]
) -> None:
    captured = when(clip=ClipTimes(LENGTH, created), mtime=mtime)
    assert (captured.at, captured.source) == expected


def test_the_name_of_a_clip_comes_before_its_container() -> None:
    named = BEGUN.replace(tzinfo=None) + BERLIN_OFFSET
    captured = when(named=named, clip=ClipTimes(LENGTH, NOW - LENGTH), mtime=NOW)
    assert captured == CaptureTime(BEGUN, CaptureSource.FILE_NAME)


@pytest.mark.parametrize("arrived", [NOW, NOW - timedelta(hours=1)])
def test_no_clip_ends_after_its_arrival(arrived: datetime) -> None:
    """As that of a file whose name is the time at which it ended."""
    clip = ClipTimes(LENGTH, None)
    named = arrived.replace(tzinfo=None) + BERLIN_OFFSET
    for captured in (
        when(named=named, clip=clip, ctime=arrived, mtime=arrived),
        when(declared=NOW + timedelta(hours=3), clip=clip, ctime=arrived, mtime=arrived),
        when(clip=clip, ctime=arrived, mtime=arrived),
        when(clip=clip, ctime=arrived, mtime=datetime(1970, 1, 1, tzinfo=UTC)),
    ):
        assert captured.at == arrived - LENGTH


def test_a_clip_of_unknown_length_has_the_mtime_itself() -> None:
    assert when(clip=ClipTimes(timedelta(0), None), mtime=BEGUN) == CaptureTime(BEGUN, CaptureSource.MTIME)


def test_the_tolerance_of_a_clip_is_that_of_its_end() -> None:
    clip = ClipTimes(LENGTH, None)
    assert when(clip=clip, mtime=NOW, tolerance=MINUTE).source is CaptureSource.MTIME_LESS_DURATION
