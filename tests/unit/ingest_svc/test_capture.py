"""When a photo was taken, and how we know."""

import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from ingest_svc.capture import Captured, Source, captured, instant
from ingest_svc.exif import Taken, taken
from ingest_svc.messages import timestamp
from mesh.times import EARLIEST, LATEST
from store_svc.records import time
from tests.unit.ingest_svc.photos import jpeg, tiff

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def ns(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000


def when(
    *,
    exif: Taken | None = None,
    declared: datetime | None = None,
    mtime: datetime = NOW,
    ctime: datetime = NOW,
) -> Captured:
    return captured(
        taken=exif, zone=BERLIN, mtime_ns=ns(mtime), ctime_ns=ns(ctime), now=NOW, declared=declared
    )


def test_the_best_source_wins() -> None:
    exif = Taken(datetime(2026, 7, 1, 10), timedelta(hours=2))
    declared, mtime = datetime(2026, 7, 1, 7, tzinfo=UTC), datetime(2026, 7, 1, 6, tzinfo=UTC)
    assert when(exif=exif, declared=declared, mtime=mtime) == Captured(declared, Source.DECLARED)
    assert when(exif=exif, mtime=mtime) == Captured(datetime(2026, 7, 1, 8, tzinfo=UTC), Source.EXIF)
    assert when(mtime=mtime) == Captured(mtime, Source.MTIME)


def test_exif_without_offset_is_in_the_cameras_zone() -> None:
    summer, winter = Taken(datetime(2026, 6, 1, 12), None), Taken(datetime(2026, 1, 1, 12), None)
    assert when(exif=summer).at == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert when(exif=winter).at == datetime(2026, 1, 1, 11, tzinfo=UTC)


def test_a_day_ahead_is_believed_and_more_is_not() -> None:
    mtime = NOW - timedelta(hours=1)
    at_most, beyond = NOW + timedelta(hours=24), NOW + timedelta(hours=24, seconds=1)
    assert when(declared=at_most, mtime=mtime).source is Source.DECLARED
    assert when(declared=beyond, mtime=mtime) == Captured(mtime, Source.MTIME)
    assert when(declared=beyond, mtime=beyond, ctime=mtime) == Captured(mtime, Source.CTIME)


def test_a_host_whose_clock_was_wrong_on_arrival_does_not_distrust_the_camera() -> None:
    exif = Taken(datetime(2026, 7, 1, 11), timedelta(0))
    assert when(
        exif=exif, mtime=datetime(1970, 1, 1, tzinfo=UTC), ctime=datetime(1970, 1, 1, tzinfo=UTC)
    ) == (Captured(datetime(2026, 7, 1, 11, tzinfo=UTC), Source.EXIF))


@pytest.mark.parametrize("at", [EARLIEST, LATEST])
def test_a_time_that_no_fact_may_tell_is_not_believed(at: datetime) -> None:
    beyond = at + timedelta(microseconds=1 if at == LATEST else -1)
    exif, mtime = Taken(beyond.replace(tzinfo=None), timedelta(0)), NOW - timedelta(hours=1)
    assert when(declared=at, mtime=mtime, ctime=LATEST) == Captured(at, Source.DECLARED)
    assert when(declared=beyond, mtime=mtime, ctime=LATEST) == Captured(mtime, Source.MTIME)
    assert when(exif=exif, mtime=mtime, ctime=LATEST) == Captured(mtime, Source.MTIME)


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
def test_whatever_the_sources_say_the_store_keeps_it(
    declared: datetime | None, exif: datetime | None, mtime_ns: int, ctime_ns: int
) -> None:
    answer = captured(
        declared=declared,
        taken=Taken(exif, None) if exif else None,
        zone=BERLIN,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        now=NOW,
    )
    assert answer.at.tzinfo is UTC
    time(timestamp(answer.at), "captured_at")


def test_instants_are_floored_to_the_microsecond() -> None:
    assert instant(1_999) == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert instant(10**30) is None


@given(st.datetimes(), st.one_of(st.none(), st.timedeltas(timedelta(hours=-24), timedelta(hours=24))))
def test_no_calendar_date_surprises_it(local: datetime, offset: timedelta | None) -> None:
    assert when(exif=Taken(local, offset)).at.tzinfo is UTC


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    content = jpeg(exif=tiff("2026:05:04 03:02:01", "+05:30", "25", order))
    assert taken(content) == Taken(datetime(2026, 5, 4, 3, 2, 1, 250_000), timedelta(hours=5, minutes=30))


def test_exif_of_a_real_encoder_is_read() -> None:
    photo, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:05:04 03:02:01"
    exif.get_ifd(0x8769)[0x9291] = "123456789"
    exif.get_ifd(0x8769)[0x9011] = "-03:00"
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", exif=exif)
    assert taken(buffer.getvalue()) == Taken(datetime(2026, 5, 4, 3, 2, 1, 123_456), timedelta(hours=-3))


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        (tiff("0000:00:00 00:00:00"), None),
        (tiff("    :  :     :  :  "), None),
        (tiff(""), None),
        (b"", None),
        (b"II*\x00\xff\xff\xff\xff", None),
        (tiff("2026:05:04 03:02:01", "nonsense", "x1"), Taken(datetime(2026, 5, 4, 3, 2, 1), None)),
    ],
)
def test_malformed_exif_is_passed_over(exif: bytes, expected: Taken | None) -> None:
    assert taken(jpeg(exif=exif)) == expected


@given(st.binary(max_size=400))
def test_no_exif_surprises_it(exif: bytes) -> None:
    taken(jpeg(exif=exif))
    taken(exif)
    taken(b"\xff\xd8" + exif)


@given(st.data())
def test_no_damage_to_exif_surprises_it(data: st.DataObject) -> None:
    exif = bytearray(tiff("2026:05:04 03:02:01", "+05:30", "25"))
    for _ in range(data.draw(st.integers(1, 6))):
        exif[data.draw(st.integers(0, len(exif) - 1))] = data.draw(st.integers(0, 255))
    read = taken(jpeg(exif=bytes(exif)))
    assert read is None or isinstance(read, Taken)
