"""When a photo was taken, from the best source that is plausible."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from mesh.image_metadata import ExifTime
from mesh.times import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A camera's clock may be fast by this much; a time further ahead is wrong.
MAX_AHEAD = timedelta(hours=24)
# A clock that was never set begins at its maker's epoch, 1 January of some year, each time that the camera is
# switched on. These years are epochs of operating systems, and few true photos are so old.
SYSTEM_EPOCHS = (1970, 1980, 2000)
SINCE_SYSTEM_EPOCH, SINCE_OTHER_EPOCH = timedelta(days=31), timedelta(days=4)
# A clock that shows UTC's epoch in a zone west of it is still in the year before.
BEFORE_SYSTEM_EPOCH = timedelta(days=1)
# A time after 1 January is the epoch only if the file arrived long after it; if it arrived in that year, only
# half a day counts, because hardly any maker's epoch is so new.
LONG_AFTER, SINCE_NEW_YEAR = timedelta(days=30), timedelta(hours=12)
# From the second day of a year on, the time of a file that was written then confirms the one in the file.
CONFIRMED_AFTER, CONFIRMED_WITHIN = timedelta(days=1), timedelta(days=1)


class CaptureSource(StrEnum):
    DECLARED = "DECLARED"
    EXIF = "EXIF"
    MTIME = "MTIME"
    CTIME = "CTIME"


@dataclass(frozen=True)
class CaptureTime:
    """`at` is in UTC, to the microsecond. `claimed` is what a clock says that is plainly unset, or too far
    from the arrival."""

    at: datetime
    source: CaptureSource
    claimed: datetime | None = None


def capture_time(
    *,
    exif: ExifTime | None,
    zone: tzinfo,
    mtime_ns: int,
    ctime_ns: int,
    now: datetime,
    declared: datetime | None = None,
    tolerance: timedelta | None = None,
) -> CaptureTime:
    """The first plausible one of `declared`, `exif` and the mtime; otherwise the ctime, or `now` if that is
    not representable either. `zone` applies to an EXIF time without an offset.

    A time is plausible if facts can represent it (EARLIEST to LATEST) and if it is at most 24 h ahead of now
    or of the file's arrival (its ctime), whichever is later. If the best claim is that of a clock that is
    plainly unset, or if `exif` or the mtime is further than `tolerance` from the arrival, then the time of
    arrival counts: who was wrong about the one time may be wrong about the others.
    """
    arrived, written = instant(ctime_ns) or now, instant(mtime_ns)
    for source, at, local in (
        (CaptureSource.DECLARED, declared, declared.replace(tzinfo=None) if declared else None),
        (CaptureSource.EXIF, _utc(exif, zone) if exif else None, exif.local if exif else None),
        (CaptureSource.MTIME, written, written.replace(tzinfo=None) if written else None),
    ):
        if at is None or not EARLIEST <= at <= LATEST or at - max(now, arrived) > MAX_AHEAD:
            continue
        too_far = source is not CaptureSource.DECLARED and tolerance and abs(at - arrived) > tolerance
        if too_far or (local and _unset(source, local, at, arrived, written)):
            return CaptureTime(arrived, CaptureSource.CTIME, at)
        return CaptureTime(at, source)
    return CaptureTime(arrived, CaptureSource.CTIME)


def _unset(
    source: CaptureSource, local: datetime, at: datetime, arrived: datetime, written: datetime | None
) -> bool:
    """Whether a clock that shows `local` was plainly never set. `written` is the mtime."""
    if arrived - at <= LONG_AFTER:
        return False
    if any(
        -BEFORE_SYSTEM_EPOCH <= local - datetime(year, 1, 1) < SINCE_SYSTEM_EPOCH for year in SYSTEM_EPOCHS
    ):
        return True
    if source is not CaptureSource.EXIF:  # set by a program, which is hardly a camera
        return False
    running = local - datetime(local.year, 1, 1)
    most = SINCE_NEW_YEAR if local.year == arrived.year else SINCE_OTHER_EPOCH
    if local.year < max(SYSTEM_EPOCHS) or running >= most:
        return False
    confirmed = written is not None and abs(written - at) <= CONFIRMED_WITHIN
    return running < CONFIRMED_AFTER or not confirmed


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
