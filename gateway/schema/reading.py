"""Fields that are read off the protobuf message which an object wraps, only when somebody asks for them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

Read: TypeAlias = Callable[[Any], Any]

EPOCH = datetime(1970, 1, 1)
READ = "read"  # in a field's metadata: the same as its resolver, without Strawberry around it


def read(path: str, then: Read | None = None, *, description: str | None = None) -> Any:
    """`path` in `self.message`, turned by `then`. Enums are read as protobuf's numbers, times as its
    timestamps."""
    get: Read = attrgetter(f"message.{path}")
    whole = _chain(get, then) if then else get
    # A Python function, because Strawberry looks at its parameters.
    return strawberry.field(resolver=_plain(whole), description=description, metadata={READ: whole})


def read_if_set(name: str, then: Read | None = None, *, description: str | None = None) -> Any:
    """The same for a field of `self.message` that may be absent: then it is null."""
    get: Read = attrgetter(name)
    whole = _chain(get, then) if then else get

    def resolve(self: Any) -> Any:
        return whole(self.message) if self.message.HasField(name) else None

    return strawberry.field(resolver=resolve, description=description, metadata={READ: resolve})


def _plain(get: Read) -> Read:
    return lambda self: get(self)


def _chain(get: Read, then: Read) -> Read:
    return lambda self: then(get(self))


def written(stamp: Timestamp) -> str:
    """ISO 8601 in UTC, microseconds."""
    return _written(stamp.seconds, stamp.nanos)


@lru_cache(4096)  # the same events are asked for again and again, and this is a fifth of what they cost
def _written(seconds: int, nanos: int) -> str:
    return (EPOCH + timedelta(0, seconds, nanos // 1000)).isoformat() + "+00:00"


def timestamp(text: object) -> Timestamp:
    """The way back: ISO 8601, UTC where no offset is said. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("a time is a text")
    stamp = Timestamp()
    try:
        stamp.FromDatetime(datetime.fromisoformat(text))
    except OverflowError:
        raise ValueError("this is out of range") from None
    return stamp


def fraction(value: float) -> float:
    """A float of 32 bits with the six digits that it holds: 0.9, not 0.8999999761581421."""
    return round(value, 6)


def known_form(id: str) -> bool:
    """Whether this can be the id of anything: ids are UUIDs in their canonical form."""
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False
