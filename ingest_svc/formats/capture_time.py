"""When a photo or clip was taken, from the best source that is plausible."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from ingest_svc.formats.time_in_name import NamedTime
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
# A time in a name or a container is not that of the file if it lies behind its mtime by more than clocks
# differ.
BEHIND_MTIME = timedelta(minutes=2)
# Within this the container's creation time agrees with the mtime: less than time zones differ.
AGREES_WITHIN = timedelta(minutes=5)
# An earlier mtime or creation time is none: it is what a program writes that does not know the time.
NO_TIME_BEFORE = datetime(2001, 1, 1, tzinfo=UTC)


class CaptureSource(StrEnum):
    DECLARED = "DECLARED"
    EXIF = "EXIF"
    FILE_NAME = "FILE_NAME"
    CONTAINER = "CONTAINER"
    CONTAINER_LOCAL = "CONTAINER_LOCAL"
    MTIME = "MTIME"
    MTIME_LESS_DURATION = "MTIME_LESS_DURATION"
    CTIME = "CTIME"


# Clocks of cameras, which may never have been set. Others are those of programs.
CAMERA_CLOCKS = (
    CaptureSource.EXIF,
    CaptureSource.FILE_NAME,
    CaptureSource.CONTAINER,
    CaptureSource.CONTAINER_LOCAL,
)


@dataclass(frozen=True)
class CaptureTime:
    """`at` is in UTC, to the microsecond; of a clip, when it began. `claimed` is what a clock says that is
    plainly unset, or too far from the arrival."""

    at: datetime
    source: CaptureSource
    claimed: datetime | None = None


@dataclass(frozen=True)
class ClipTimes:
    """How long a clip lasts, zero if that is not known, and the creation time that its container states."""

    length: timedelta
    created: datetime | None


@dataclass(frozen=True)
class _Claim:
    """`local` is what the clock showed that `at` was read from."""

    source: CaptureSource
    at: datetime | None
    local: datetime | None


def capture_time(
    *,
    exif: ExifTime | None,
    zone: tzinfo,
    mtime_ns: int,
    ctime_ns: int,
    now: datetime,
    declared: datetime | None = None,
    tolerance: timedelta | None = None,
    named: NamedTime | None = None,
    clip: ClipTimes | None = None,
) -> CaptureTime:
    """The first plausible one of `declared`, `exif`, the time in the file's name, the creation time of a
    clip's container and the mtime, less the length of a clip; otherwise the ctime, or `now` if that is not
    representable either. `zone` applies to times without an offset. A clip's time is that of its beginning,
    and its end never lies after its arrival.

    A time is plausible if facts can represent it (EARLIEST to LATEST) and if it is at most 24 h ahead of now
    or of the file's arrival (its ctime), whichever is later; one in a name or a container also must not lie
    behind the mtime. If the best claim is that of a clock that is plainly unset, or if it is not declared and
    further than `tolerance` from the arrival, then the time of arrival counts: who was wrong about the one
    time may be wrong about the others.
    """
    arrived, written = instant(ctime_ns) or now, instant(mtime_ns)
    length = clip.length if clip else timedelta(0)

    def beginning(at: datetime) -> datetime:
        return at if clip is None else max(EARLIEST, min(at, _minus(min(arrived, now), length)))

    claims = (
        _Claim(CaptureSource.DECLARED, declared, declared.replace(tzinfo=None) if declared else None),
        _Claim(CaptureSource.EXIF, _utc(exif, zone) if exif else None, exif.local if exif else None),
        *_claims_of_a_recorder(named, clip, zone, written, max(arrived, now)),
        _claim_of_mtime(written, length),
    )
    for claim in claims:
        at = claim.at
        if at is None or not EARLIEST <= at <= LATEST or at - max(now, arrived) > MAX_AHEAD:
            continue
        is_declared = claim.source is CaptureSource.DECLARED
        too_far = not is_declared and tolerance and abs(at + length - arrived) > tolerance
        if too_far or (claim.local and _unset(claim.source, claim.local, at, arrived, written)):
            return CaptureTime(beginning(arrived), CaptureSource.CTIME, at)
        return CaptureTime(beginning(at), claim.source)
    return CaptureTime(beginning(arrived), CaptureSource.CTIME)


def _claims_of_a_recorder(
    named: NamedTime | None,
    clip: ClipTimes | None,
    zone: tzinfo,
    written: datetime | None,
    arrived: datetime,
) -> Iterator[_Claim]:
    """The times in the file's name and in a clip's container that do not lie behind the mtime."""
    known = written is not None and written >= NO_TIME_BEFORE
    written = written if written is not None and known else arrived
    if named is not None:
        latest = written + BEHIND_MTIME
        readings = [at for at in _readings(named.local, named.offset, zone) if at <= latest]
        yield _Claim(CaptureSource.FILE_NAME, max(readings, default=None), named.local)
    if clip is not None and clip.created is not None and clip.created >= NO_TIME_BEFORE:
        yield _container_claim(clip.created, clip.length, zone, written)


def _container_claim(created: datetime, length: timedelta, zone: tzinfo, written: datetime) -> _Claim:
    """UTC by the letter, but many cameras write their local time. Programs write when the clip began, or when
    it ended. What agrees with the mtime is right; if nothing does, it is when the clip began, in UTC unless
    that would be behind the mtime."""
    local = created.replace(tzinfo=None)
    readings = [(CaptureSource.CONTAINER, created)]
    readings += [(CaptureSource.CONTAINER_LOCAL, at) for at in _readings(local, None, zone)]
    beginnings = [(abs(at + length - written), source, at) for source, at in readings]
    endings = [(abs(at - written), source, _minus(at, length)) for source, at in readings]
    distance, source, at = min(beginnings + endings, key=lambda found: found[0])
    if distance > AGREES_WITHIN:
        before = [found for found in readings if found[1] <= written + BEHIND_MTIME]
        if not before:
            return _Claim(CaptureSource.CONTAINER, None, local)
        source, at = before[0]
    return _Claim(source, at, local)


def _claim_of_mtime(written: datetime | None, length: timedelta) -> _Claim:
    local = written.replace(tzinfo=None) if written else None
    if written is None or not length:
        return _Claim(CaptureSource.MTIME, written, local)
    return _Claim(CaptureSource.MTIME_LESS_DURATION, _minus(written, length), local)


def _readings(local: datetime, offset: timedelta | None, zone: tzinfo) -> list[datetime]:
    """The times that a clock may have meant: two in the hour that is repeated when summer time ends, and in
    the one that is skipped when it begins, because a clock may not have been changed yet."""
    try:
        if offset is not None:
            return [(local - offset).replace(tzinfo=UTC)]
        return [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    except OverflowError:
        return []


def _minus(at: datetime, length: timedelta) -> datetime:
    return at - length if at - EARLIEST > length else EARLIEST


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
    if source not in CAMERA_CLOCKS:  # set by a program, which is hardly a camera
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
