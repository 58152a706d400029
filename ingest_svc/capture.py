"""When a photo was taken: fixed once, from the best source that can be true."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from ingest_svc.exif import Taken
from mesh.times import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A camera's clock may be somewhat ahead; beyond this it is wrong.
FARTHEST_AHEAD = timedelta(hours=24)


class Source(StrEnum):
    DECLARED = "DECLARED"
    EXIF = "EXIF"
    MTIME = "MTIME"
    CTIME = "CTIME"


@dataclass(frozen=True)
class Captured:
    """`at` is in UTC, to the microsecond."""

    at: datetime
    source: Source


def captured(
    *,
    taken: Taken | None,
    zone: tzinfo,
    mtime_ns: int,
    ctime_ns: int,
    now: datetime,
    declared: datetime | None = None,
) -> Captured:
    """The first of declared, EXIF (in `zone` where it has no offset) and mtime that a fact may tell and that
    is at most 24 h ahead of both now and the file's own arrival (ctime); else the ctime, else now."""
    arrived = instant(ctime_ns) or now
    for source, at in (
        (Source.DECLARED, declared),
        (Source.EXIF, _utc(taken, zone) if taken else None),
        (Source.MTIME, instant(mtime_ns)),
    ):
        if at and EARLIEST <= at <= LATEST and at - max(now, arrived) <= FARTHEST_AHEAD:
            return Captured(at, source)
    return Captured(arrived, Source.CTIME)


def instant(ns: int) -> datetime | None:
    """Nanoseconds since 1970 as a time; None for one that no fact may tell."""
    try:
        at = EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None
    return at if EARLIEST <= at <= LATEST else None


def _utc(taken: Taken, zone: tzinfo) -> datetime | None:
    try:
        if taken.offset is not None:
            return (taken.local - taken.offset).replace(tzinfo=UTC)
        return taken.local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return None
