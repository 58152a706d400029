"""Capture times are whole microseconds since 1970 (UTC) in the domain: exact, and cheap to compare."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime | Timestamp) -> int:
    """Finer than a microsecond is cut off."""
    if isinstance(time, Timestamp):
        return time.seconds * SECOND + time.nanos // 1000
    return (time - EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)


def stamp(time: int | datetime) -> Timestamp:
    at = time if isinstance(time, int) else micros(time)
    return Timestamp(seconds=at // SECOND, nanos=at % SECOND * 1000)


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
