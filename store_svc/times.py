"""Conversions of times. The domain counts capture times in whole microseconds since 1970 (UTC), which are
exact and cheap to compare."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime | Timestamp) -> int:
    """Microseconds since 1970; fractions of a microsecond are cut off."""
    if isinstance(time, datetime):
        return (time - EPOCH) // _MICROSECOND
    return time.seconds * SECOND + time.nanos // 1000


def moment(at: int) -> datetime:
    """The UTC time `at` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=at)


def stamp(time: int | datetime) -> Timestamp:
    """The protobuf timestamp of a time or of microseconds since 1970."""
    at = time if isinstance(time, int) else micros(time)
    return Timestamp(seconds=at // SECOND, nanos=at % SECOND * 1000)


def set_stamp(timestamp: Timestamp, at: int) -> None:
    """Makes it the time `at` microseconds after 1970. For a field of a message, this takes half the time of
    passing a `stamp`, which is copied."""
    timestamp.seconds = at // SECOND
    timestamp.nanos = at % SECOND * 1000


def now() -> datetime:
    """The time of the wall clock."""
    return datetime.now(UTC)
