"""Messages as Kafka records, and back."""

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

# Kafka's default for a batch is 1 MiB; the rest is for the headers and the batch's own.
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    # From its making until it is durable.
    span: Span | None = field(default=None, compare=False)


def encode(topic: Topic[M], message: M, headers: Mapping[str, str], parent: Span | None = None) -> Outgoing:
    """`parent`: the span that the record follows from; the current one if none is given. Raises Invalid where
    the message is none of this topic's, or too large for it."""
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
    """Request id and trace of a record, for what follows from it."""
    return {name: delivery.headers[name] for name in (REQUEST_ID, TRACEPARENT) if name in delivery.headers}


def decode(topic: Topic[M], record: Any, generation: int = 0) -> Delivery[M]:
    """A record as aiokafka gives it; raises DecodeError where the bytes are no such message, or its time is
    none."""
    if record.value is None:
        raise DecodeError("a record without a value")
    try:
        timestamp = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # whichever the platform's calendar ends with
        raise DecodeError(f"no calendar holds the time {record.timestamp} ms") from None
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
    """Whether the record is not a requeue that names another service."""
    return all(name != REQUEUE_FOR or value == group.encode() for name, value in record.headers)


def dead_letter(record: Any, group: str, reason: str, attempts: int) -> Outgoing:
    """The record as it came, with where it came from and why it went no further."""
    origin = {
        "origin-topic": record.topic,
        "origin-partition": str(record.partition),
        "origin-offset": str(record.offset),
        "reason": reason,
        "attempts": str(attempts),
    }
    headers = [*record.headers, *((name, text.encode()) for name, text in origin.items())]
    return Outgoing(dead_letters(group), record.key, record.value, headers)
