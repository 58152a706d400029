"""Fields of GraphQL objects that wrap a protobuf message, and are read from it only if a request selects
them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

Convert: TypeAlias = Callable[[Any], Any]
# A GraphQL type whose objects wrap a message.
Kind: TypeAlias = Callable[..., Any]

EPOCH = datetime(1970, 1, 1)
# The key, in the metadata of a Strawberry field, of the way to read the field without Strawberry.
READER = "reader"

# Makes a list of a repeated field, at half the cost of `list`.
to_list: Callable[[Any], list[Any]] = itemgetter(slice(None))


class FieldReader(NamedTuple):
    """How to read a field: the attributes to follow from its object, and what to call with the last one's
    value. Reading changes nothing, so it may be done twice."""

    path: str
    convert: Convert | None = None
    # If the value is an object, or a list of objects, that only wrap messages: how to read the messages.
    messages: "FieldReader | None" = None


def message_field(
    path: str,
    convert: Convert | None = None,
    *,
    of: Kind | None = None,
    list_of: Kind | None = None,
    description: str | None = None,
) -> Any:
    """Declares a field that reads `path` in `self.message` and passes it to `convert`. Enums are read as
    protobuf numbers, and times as protobuf timestamps. `of` is the GraphQL type of the field if the value
    that was read is the message of such an object, `list_of` if it is a list of them."""
    return _field(FieldReader(f"message.{path}", convert), of, list_of, description)


def optional_message_field(
    name: str, convert: Convert | None = None, *, of: Kind | None = None, description: str | None = None
) -> Any:
    """Like `message_field`, for a field of `self.message` that may be absent: then it is null."""
    get = attrgetter(name)

    def read(message: Any) -> Any:
        if not message.HasField(name):
            return None
        return convert(get(message)) if convert else get(message)

    return computed_field(read, of=of, description=description)


def computed_field(compute: Convert, *, of: Kind | None = None, description: str | None = None) -> Any:
    """Declares a field that `compute` makes from `self.message`. It changes nothing and asks nobody."""
    return _field(FieldReader("message", compute), of, None, description)


def _field(reader: FieldReader, of: Kind | None, list_of: Kind | None, description: str | None) -> Any:
    if of:
        reader = _wrapping(reader, lambda message: None if message is None else of(message=message))
    elif list_of:
        reader = _wrapping(reader, lambda messages: [list_of(message=message) for message in messages])
    return reader_field(reader, description=description)


def _wrapping(reader: FieldReader, wrap: Convert) -> FieldReader:
    convert = reader.convert
    return FieldReader(
        reader.path, (lambda value: wrap(convert(value))) if convert else wrap, messages=reader
    )


def reader_field(reader: FieldReader, *, description: str | None = None) -> Any:
    get, convert = attrgetter(reader.path), reader.convert

    def read(self: Any) -> Any:
        return convert(get(self)) if convert else get(self)

    return strawberry.field(resolver=read, description=description, metadata={READER: reader})


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
