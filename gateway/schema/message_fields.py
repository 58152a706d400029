"""Fields of GraphQL objects that wrap a protobuf message, and are read from it only if a request selects
them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

FieldReader: TypeAlias = Callable[[Any], Any]

EPOCH = datetime(1970, 1, 1)
# The key, in the metadata of a Strawberry field, of a function that reads the field without Strawberry.
READER = "reader"


def message_field(path: str, convert: FieldReader | None = None, *, description: str | None = None) -> Any:
    """Declares a field that reads `path` in `self.message` and passes it to `convert`. Enums are read as
    protobuf numbers, and times as protobuf timestamps."""
    get: FieldReader = attrgetter(f"message.{path}")
    read = _chain(get, convert) if convert else get
    return strawberry.field(resolver=_as_function(read), description=description, metadata={READER: read})


def optional_message_field(
    name: str, convert: FieldReader | None = None, *, description: str | None = None
) -> Any:
    """Like `message_field`, for a field of `self.message` that may be absent: then it is null."""
    get: FieldReader = attrgetter(name)
    present = _chain(get, convert) if convert else get

    def read(self: Any) -> Any:
        return present(self.message) if self.message.HasField(name) else None

    return strawberry.field(resolver=read, description=description, metadata={READER: read})


def _as_function(read: FieldReader) -> FieldReader:
    """Strawberry inspects the parameters of a resolver, which an attrgetter does not declare."""
    return lambda self: read(self)


def _chain(first: FieldReader, then: FieldReader) -> FieldReader:
    return lambda self: then(first(self))


def format_timestamp(stamp: Timestamp) -> str:
    """Returns ISO 8601 in UTC, with microseconds if there are any."""
    return _format_timestamp(stamp.seconds, stamp.nanos)


@lru_cache(4096)  # the same events are requested again and again, and this is a fifth of their cost
def _format_timestamp(seconds: int, nanos: int) -> str:
    return (EPOCH + timedelta(0, seconds, nanos // 1000)).isoformat() + "+00:00"


def parse_timestamp(text: object) -> Timestamp:
    """Reads ISO 8601, in UTC if it has no offset. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("a time must be a string")
    stamp = Timestamp()
    try:
        stamp.FromDatetime(datetime.fromisoformat(text))
    except OverflowError:
        raise ValueError("this time is out of range") from None
    return stamp


def round_float32(value: float) -> float:
    """Rounds a 32-bit float to the six digits that it holds: 0.9 instead of 0.8999999761581421."""
    return round(value, 6)


def is_uuid(id: str) -> bool:
    """Whether `id` is a UUID in canonical form, as every id is except a camera's."""
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False
