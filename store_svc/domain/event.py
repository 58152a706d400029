"""One event's life: it grows, is closed, judged, or judged in vain. Pure: the clock is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from store_svc.domain.evidence import History, evidence_digest

# store.v1.EventStatus
PENDING, ASSESSED, FAILED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class AddedFrame:
    """The detections of one frame that joined."""

    at: int
    detection_ids: tuple[UUID, ...]
    labels: frozenset[str]
    urgent: bool
    first_of_media: bool


@dataclass(frozen=True, slots=True)
class AddedFrames:
    """What joined one event in one transaction, with what the evidence is made of besides, and the trace of
    the photo that counts most."""

    frames: tuple[AddedFrame, ...]
    time_zone: str
    partition: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class StoredAssessment:
    """`request_id` is that of the request it answers."""

    id: UUID
    evidence_revision: int
    evidence_digest: str
    severity: int
    body: bytes
    request_id: UUID | None = None


@dataclass(slots=True)
class StoredEvent:
    """A row of `events`, with the body of its current assessment. Times of capture in microseconds.

    `urgent_done`: the fast path was taken. `failure_id` is that of the last failure, until something
    succeeds. `traceparent` is the trace of the photo that joined last, if it is recorded. What people see
    changes only with `revision`.
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
    urgent_done: bool = False
    failure_id: UUID | None = None
    traceparent: str | None = None
    assessment: bytes | None = field(default=None, repr=False)

    def add_frames(self, added: AddedFrames, known: Iterable[UUID], now: datetime) -> bool:
        """One change, whatever joined. `known` are the ids of the detections it has already. Whether it takes
        the fast path with it."""
        ids, urgent_before = list(known), self.urgent_done
        for frame in added.frames:
            ids.extend(frame.detection_ids)
            self.started_at = min(self.started_at, frame.at)
            self.ended_at = max(self.ended_at, frame.at)
            self.labels |= frame.labels
            self.media_count += frame.first_of_media
            self.urgent_done |= frame.urgent
        self.detection_count = len(ids)
        self.time_zone, self.partition = added.time_zone, added.partition
        self.traceparent = added.traceparent
        self.last_recorded_at, self.closed = now, False
        self.revision += 1
        self.evidence_revision = self.revision
        self.evidence_digest = evidence_digest(ids, self.history, self.time_zone)
        return self.urgent_done and not urgent_before

    def close(self) -> None:
        self.closed = True
        self.revision += 1

    def apply_assessment(self, assessment: StoredAssessment, answers: bool) -> bool:
        """Makes it the current assessment if it wins; whether it did. `answers`: it is the answer to the
        request that waits.

        The highest evidence revision wins. So does the only one that judged the evidence of now: the same
        assessment may come from an earlier life of this store, with other revisions. And so does the answer
        to the request, but for one of outgrown evidence after a assessment of newer.
        """
        current = assessment.evidence_digest == self.evidence_digest
        alone = current and self.assessed_digest != self.evidence_digest
        newer = assessment.evidence_revision > self.assessed_revision
        as_new = current or assessment.evidence_revision == self.assessed_revision
        wins = newer or alone or (answers and as_new)
        if wins:
            self.assessment_id, self.assessment = assessment.id, assessment.body
            self.assessed_digest, self.severity = assessment.evidence_digest, assessment.severity
            self.assessed_revision = max(self.assessed_revision, assessment.evidence_revision)
            self.status = ASSESSED
            self.revision += 1
        if wins or answers:
            self.failure_id = None
        return wins

    def record_failure(self, failure_id: UUID, *, asked: bool) -> None:
        """Remembers a failed attempt. Of several in a row only the first is a change that people see.
        `asked`: somebody waits for an answer; then what was judged stays so."""
        self.failure_id = failure_id
        if self.status != FAILED and (not asked or self.wants_assessment):
            self.status = FAILED
            self.revision += 1

    @property
    def wants_assessment(self) -> bool:
        """Without any request: a closed event unless this very evidence was assessed, an open one only by the
        fast path, until its first assessment."""
        if self.closed:
            return self.evidence_digest != self.assessed_digest
        return self.urgent_done and self.assessment_id is None
