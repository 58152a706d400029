"""Conversion between messages and Kafka records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.trace import Span

from mesh.delivery import Delivery
from mesh.problems import Invalid
from mesh.telemetry.spans import publish_span, traceparent_of
from mesh.telemetry.trace_context import REQUEST_ID, TRACEPARENT
from mesh.topics import M, Topic, dead_letters

REQUEUE_FOR = "requeue-for"

# Kafka's default limit for a batch is 1 MiB. The rest is left for headers and the batch's own fields.
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to write. `span` lasts from its creation until the record is durable."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    span: Span | None = field(default=None, compare=False)


def encode(topic: Topic[M], message: M, headers: Mapping[str, str], parent: Span | None = None) -> Outgoing:
    """Serialises a message. `parent` is the span that the record follows from, by default the current one.

    Raises Invalid if the message is not of the topic's type, or too large.
    """
    if not isinstance(message, topic.message):
        raise Invalid(
            f"{topic.name} carries {topic.message.__name__}, not {type(message).__name__}", "WRONG_MESSAGE"
        )
    value = message.SerializeToString()
    if len(value) > MAX_BYTES:
        raise Invalid(
            f"{len(value)} bytes are too many for {topic.name}", "MESSAGE_TOO_LARGE", topic=topic.name
        )
    span = publish_span(topic.name, parent)
    if span:
        headers = {**headers, TRACEPARENT: traceparent_of(span)}
    return Outgoing(
        topic.name, topic.key(message).encode(), value, [(k, v.encode()) for k, v in headers.items()], span
    )


def inherited(delivery: Delivery[Any]) -> dict[str, str]:
    """Returns the headers that pass a record's request id and trace to what follows from it."""
    return {name: delivery.headers[name] for name in (REQUEST_ID, TRACEPARENT) if name in delivery.headers}


def decode(topic: Topic[M], record: Any, generation: int = 0) -> Delivery[M]:
    """Parses a record as aiokafka returns it.

    Raises DecodeError if the value is not a message of the topic, or the timestamp is out of range.
    """
    if record.value is None:
        raise DecodeError("a record without a value")
    try:
        timestamp = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # depends on the platform
        raise DecodeError(f"the timestamp {record.timestamp} ms is out of range") from None
    return Delivery(
        message=topic.message.FromString(record.value),
        key=(record.key or b"").decode(errors="replace"),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=timestamp,
        headers={name: (value or b"").decode(errors="replace") for name, value in record.headers},
        generation=generation,
    )


def is_for(record: Any, group: str) -> bool:
    """Returns whether the group should see the record: False only if it is requeued for another one."""
    return all(name != REQUEUE_FOR or value == group.encode() for name, value in record.headers)


def dead_letter(record: Any, group: str, reason: str, attempts: int) -> Outgoing:
    """Returns the unchanged record as a dead letter, with its origin and the reason in headers."""
    origin = {
        "origin-topic": record.topic,
        "origin-partition": str(record.partition),
        "origin-offset": str(record.offset),
        "reason": reason,
        "attempts": str(attempts),
    }
    headers = [*record.headers, *((name, text.encode()) for name, text in origin.items())]
    return Outgoing(dead_letters(group), record.key, record.value, headers)
