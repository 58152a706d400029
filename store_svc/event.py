"""One event's life: it grows, is closed, judged, or judged in vain. Pure: the clock is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from store_svc.evidence import History, digest

# store.v1.EventStatus
PENDING, ASSESSED, FAILED = 1, 2, 3
URGENT = 1

RETRY_SECONDS = 1.0  # doubled by every failed attempt,
RETRY_MOST_SECONDS = 300.0  # up to this


@dataclass(frozen=True, slots=True)
class Addition:
    """The detections of one frame that joined."""

    at: int
    detection_ids: tuple[UUID, ...]
    labels: frozenset[str]
    urgent: bool
    first_of_media: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """What joined one event in one transaction, with what the evidence is made of besides."""

    additions: tuple[Addition, ...]
    time_zone: str
    partition: int


@dataclass(frozen=True, slots=True)
class Judgement:
    id: UUID
    evidence_revision: int
    evidence_digest: str
    severity: int
    body: bytes


@dataclass(slots=True)
class StoredEvent:
    """A row of `events`, with the body of its current assessment. Times of capture in microseconds.

    The lease's columns belong to the lease alone, but for `released`: the next write ends it.
    """

    id: UUID
    camera_id: str
    started_at: int
    ended_at: int
    history: History
    last_recorded_at: datetime
    partition: int = 0
    status: int = PENDING
    revision: int = 0
    sequence: int = 0
    closed: bool = False
    labels: frozenset[str] = frozenset()
    detection_count: int = 0
    media_count: int = 0
    time_zone: str = ""
    evidence_digest: str = ""
    evidence_revision: int = 0
    assessment_id: UUID | None = None
    assessed_digest: str | None = None
    assessed_revision: int = 0
    severity: int | None = None
    due_at: datetime | None = None
    urgent_done: bool = False
    priority: int = 0
    attempts: int = 0
    released: bool = False
    assessment: bytes | None = field(default=None, repr=False)

    def grow(self, growth: Growth, known: Iterable[UUID], now: datetime) -> None:
        """One change, whatever joined. `known` are the ids of the detections it has already."""
        ids = list(known)
        for addition in growth.additions:
            ids.extend(addition.detection_ids)
            self.started_at = min(self.started_at, addition.at)
            self.ended_at = max(self.ended_at, addition.at)
            self.labels |= addition.labels
            self.media_count += addition.first_of_media
            if addition.urgent and not self.urgent_done:
                self.urgent_done, self.priority, self.due_at = True, URGENT, now
        self.detection_count = len(ids)
        self.time_zone, self.partition = growth.time_zone, growth.partition
        self.last_recorded_at, self.closed = now, False
        self.revision += 1
        self.evidence_revision = self.revision
        self.evidence_digest = digest(ids, self.history, self.time_zone)

    def close(self, now: datetime) -> None:
        """Due, unless this very evidence has been judged."""
        self.closed = True
        self.revision += 1
        if self.evidence_digest != self.assessed_digest and self.due_at is None:
            self.due_at = now

    def judge(self, judgement: Judgement) -> bool:
        """Makes it the current assessment if it wins; whether it did.

        The highest evidence revision wins. So does the only one that judged the evidence of now: the same
        assessment may come from an earlier life of this store, with other revisions.
        """
        current = judgement.evidence_digest == self.evidence_digest
        alone = current and self.assessed_digest != self.evidence_digest
        if judgement.evidence_revision <= self.assessed_revision and not alone:
            return False
        self.assessment_id, self.assessment = judgement.id, judgement.body
        self.assessed_digest, self.severity = judgement.evidence_digest, judgement.severity
        self.assessed_revision = max(self.assessed_revision, judgement.evidence_revision)
        self.status, self.attempts, self.released = ASSESSED, 0, True
        if current or not self.closed:
            self.due_at = None  # an open event comes again when it is closed
        self.revision += 1
        return True

    def fail(self, evidence_digest: str, now: datetime) -> bool:
        """Counts a failed attempt, to be tried again later; whether it mattered: not after a judgement of the
        same evidence, nor where nothing is due."""
        if self.due_at is None or evidence_digest == self.assessed_digest:
            return False
        self.attempts += 1
        self.status, self.released = FAILED, True
        self.due_at = now + retry_after(self.attempts)
        self.revision += 1
        return True


def retry_after(attempts: int) -> timedelta:
    """How long an event waits after that many failed attempts."""
    return timedelta(seconds=min(RETRY_MOST_SECONDS, RETRY_SECONDS * 2.0 ** (min(attempts, 30) - 1)))
