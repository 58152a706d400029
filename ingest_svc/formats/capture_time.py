"""When a photo was taken, from the best source that is plausible."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from mesh.image_metadata import ExifTime
from mesh.times import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A camera's clock may be fast by this much; a time further ahead is wrong.
MAX_AHEAD = timedelta(hours=24)


class CaptureSource(StrEnum):
    DECLARED = "DECLARED"
    EXIF = "EXIF"
    MTIME = "MTIME"
    CTIME = "CTIME"


@dataclass(frozen=True)
class CaptureTime:
    """`at` is in UTC, to the microsecond."""

    at: datetime
    source: CaptureSource


def capture_time(
    *,
    exif: ExifTime | None,
    zone: tzinfo,
    mtime_ns: int,
    ctime_ns: int,
    now: datetime,
    declared: datetime | None = None,
) -> CaptureTime:
    """The first plausible one of `declared`, `exif` and the mtime; otherwise the ctime, or `now` if that is
    not representable either. `zone` applies to an EXIF time without an offset.

    A time is plausible if facts can represent it (EARLIEST to LATEST) and if it is at most 24 h ahead of now
    or of the file's arrival (its ctime), whichever is later.
    """
    arrived = instant(ctime_ns) or now
    for source, at in (
        (CaptureSource.DECLARED, declared),
        (CaptureSource.EXIF, _utc(exif, zone) if exif else None),
        (CaptureSource.MTIME, instant(mtime_ns)),
    ):
        if at and EARLIEST <= at <= LATEST and at - max(now, arrived) <= MAX_AHEAD:
            return CaptureTime(at, source)
    return CaptureTime(arrived, CaptureSource.CTIME)


def instant(ns: int) -> datetime | None:
    """Converts nanoseconds since 1970; None if facts cannot represent the time."""
    try:
        at = EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None
    return at if EARLIEST <= at <= LATEST else None


def _utc(exif: ExifTime, zone: tzinfo) -> datetime | None:
    try:
        if exif.offset is not None:
            return (exif.local - exif.offset).replace(tzinfo=UTC)
        return exif.local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return None
