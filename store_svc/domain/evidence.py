"""What a assessment rests on, and its digest: the same evidence has the same digest in every run."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class EarlierEvent:
    """An event of the hour before, as it was known when another opened. `started_at` in microseconds."""

    event_id: UUID
    started_at: int


History = tuple[EarlierEvent, ...]


def evidence_digest(detection_ids: Iterable[UUID], history: Sequence[EarlierEvent], time_zone: str) -> str:
    """Hex SHA-256. No revision, status or wall clock is in it, nor an assessment."""
    lines = [time_zone, *sorted(map(str, detection_ids)), *(f"{p.event_id} {p.started_at}" for p in history)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def dump_history(history: Sequence[EarlierEvent]) -> str:
    """As the column events.history keeps it: JSON [[event id, started_at], ...]."""
    return json.dumps([[str(past.event_id), past.started_at] for past in history]) if history else "[]"


def load_history(column: str | list[list[str | int]]) -> History:
    """The column as asyncpg (text) or SQLAlchemy (lists) reads it."""
    pairs = json.loads(column) if isinstance(column, str) else column
    return tuple(EarlierEvent(UUID(str(event_id)), int(started_at)) for event_id, started_at in pairs)
