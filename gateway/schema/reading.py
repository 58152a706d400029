"""Fields that are read off the protobuf message which an object wraps, only when somebody asks for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
READ = "read"  # in a field's metadata: the same as its resolver, without Strawberry around it


def read(path: str, then: Callable[[Any], Any] | None = None, *, description: str | None = None) -> Any:
    """`path` in `self.message`, turned by `then`. Enums are read as protobuf's numbers."""
    get: Callable[[Any], Any] = attrgetter(f"message.{path}")
    whole = (lambda self: then(get(self))) if then else get
    return strawberry.field(
        resolver=lambda self: whole(self), description=description, metadata={READ: whole}
    )


def instant(stamp: Timestamp) -> datetime:
    """Aware, UTC, microseconds; several times faster than ToDatetime()."""
    return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def stamp(when: datetime | None) -> Timestamp | None:
    """The way back; a time without an offset is taken as UTC."""
    if when is None:
        return None
    made = Timestamp()
    made.FromDatetime(when)
    return made


def fraction(value: float) -> float:
    """A float of 32 bits with the six digits that it holds: 0.9, not 0.8999999761581421."""
    return round(value, 6)


def known_form(id: str) -> bool:
    """Whether this can be the id of anything: ids are UUIDs in their canonical form."""
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False
