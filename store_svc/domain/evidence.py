"""The digest of an event's evidence, and the earlier events that are part of the evidence."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from store_svc.ids import parse_uuid


@dataclass(frozen=True, slots=True)
class EarlierEvent:
    """An event of the hour before another one, as it was known when the other one was opened.

    `started_at` is in microseconds.
    """

    event_id: UUID
    started_at: int


History = tuple[EarlierEvent, ...]


def evidence_digest(detection_ids: Iterable[UUID], history: Sequence[EarlierEvent], time_zone: str) -> str:
    """Returns a hex SHA-256, which is the same for the same evidence in every database.

    It does not depend on revisions, the event's status, assessments or the wall clock.
    """
    earlier = (f"{event.event_id} {event.started_at}" for event in history)
    lines = [time_zone, *sorted(map(str, detection_ids)), *earlier]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def dump_history(history: Sequence[EarlierEvent]) -> str:
    """Returns the value of the column events.history: JSON [[event id, started_at], ...]."""
    return json.dumps([[str(event.event_id), event.started_at] for event in history]) if history else "[]"


def load_history(column: str | list[list[str | int]]) -> History:
    """Parses the column as asyncpg (text) or SQLAlchemy (lists) returns it."""
    pairs = json.loads(column) if isinstance(column, str) else column
    return tuple(EarlierEvent(parse_uuid(str(event_id)), int(started_at)) for event_id, started_at in pairs)
