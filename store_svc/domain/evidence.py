"""The digests of an event's evidence, and the earlier events that are part of the evidence."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from store_svc.ids import parse_uuid


@dataclass(frozen=True, slots=True)
class EarlierEvent:
    """An event of the hour before another one, as it was when the other one was opened.

    Times are in microseconds. `detections` is how many it had. The evidence of events that an earlier version
    has opened knows only when it started.
    """

    event_id: UUID
    started_at: int
    ended_at: int = 0
    detections: int = 0


History = tuple[EarlierEvent, ...]


def digest_v1(detection_ids: Iterable[UUID], history: Sequence[EarlierEvent], time_zone: str) -> str:
    """The digest of an event that a version before `event_evidence` has opened: a hex SHA-256."""
    earlier = (f"{event.event_id} {event.started_at}" for event in history)
    lines = [time_zone, *sorted(map(str, detection_ids)), *earlier]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_v2(detection_ids: Iterable[UUID], frozen_digest: bytes) -> str:
    """Returns a hex SHA-256, which is the same for the same evidence in every database.

    It does not depend on revisions, the event's status, assessments or the wall clock.
    """
    ids = b"".join(sorted([id.bytes for id in detection_ids]))  # each has 16 bytes
    return sha256_of(b"evidence/v2", frozen_digest, ids).hex()


def sha256_of(*parts: bytes) -> bytes:
    """Each part follows its length, so that different parts never give the same bytes."""
    return hashlib.sha256(b"".join([len(part).to_bytes(8) + part for part in parts])).digest()


def dump_history(history: Sequence[EarlierEvent]) -> str:
    """Returns the value of the column events.history: JSON [[event id, started_at], ...]."""
    return json.dumps([[str(event.event_id), event.started_at] for event in history]) if history else "[]"


def load_history(column: str | list[list[str | int]]) -> History:
    """Parses the column as asyncpg (text) or SQLAlchemy (lists) returns it."""
    pairs = json.loads(column) if isinstance(column, str) else column
    return tuple(EarlierEvent(parse_uuid(str(event_id)), int(started_at)) for event_id, started_at in pairs)
