"""The state of one event: frames join it, it is closed, it is assessed or the attempt fails.

Pure: the current time is an argument.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from store_svc.domain.evidence import History, digest_v1, digest_v2
from store_svc.domain.habits import Stays

# The numbers of lares.store.v1.EventStatus.
PENDING, ASSESSED, FAILED = 1, 2, 3


class AddedFrame(NamedTuple):
    """The detections of one frame that joins an event.

    `at` is the capture time in microseconds. `urgent` means that a detection takes the fast path, and
    `first_of_media` that no other frame of this media has joined the event. `places` are what was seen in
    which zone: (label, zone id). `of_clip` says that its media is a clip.
    """

    at: int
    detection_ids: tuple[UUID, ...]
    labels: frozenset[str]
    urgent: bool
    first_of_media: bool
    zones: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()
    of_clip: bool = False


@dataclass(frozen=True, slots=True)
class AddedFrames:
    """The frames that join one event in one transaction.

    `time_zone` is the camera's, which is part of the evidence of events that an earlier version has opened:
    they take the latest. `traceparent` is the trace of the photo that
    the next assessment follows from.
    """

    frames: tuple[AddedFrame, ...]
    time_zone: str
    partition: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class StoredAssessment:
    """A row of `assessments`. `request_id` is the request that it answers, if it was requested."""

    id: UUID
    evidence_revision: int
    evidence_digest: str
    severity: int
    body: bytes
    request_id: UUID | None = None


@dataclass(slots=True)
class StoredEvent:
    """A row of `events`, with the body of its current assessment.

    `started_at` and `ended_at` are capture times in microseconds. `urgent_done` means that the fast path was
    taken. `failure_id` is the last failed attempt, until an attempt succeeds. `traceparent` is the trace of
    the photo that joined last, if it is recorded. `most_at_once` is the most detections of one frame.
    `frozen_digest` is that of what was frozen when the event opened; an event that an earlier version has
    opened has a `history` instead. `stays` are what habits are counted from. Whenever something changes that
    clients can see, or that the evidence is made of, `revision` is incremented.
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
    most_at_once: int = 0
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
    zones: frozenset[str] = frozenset()
    frozen_digest: bytes | None = None
    stays: Stays = ()
    assessment: bytes | None = field(default=None, repr=False)

    def add_frames(self, added: AddedFrames, known_ids: Iterable[UUID], now: datetime) -> bool:
        """Adds frames as one change, and reopens the event. Returns whether it takes the fast path for this.

        `known_ids` are the ids of the detections that the event already has.
        """
        ids, urgent_before = list(known_ids), self.urgent_done
        for frame in added.frames:
            ids.extend(frame.detection_ids)
            self.started_at = min(self.started_at, frame.at)
            self.ended_at = max(self.ended_at, frame.at)
            self.labels |= frame.labels
            self.zones |= frame.zones
            self.media_count += frame.first_of_media
            self.most_at_once = max(self.most_at_once, len(frame.detection_ids))
            self.urgent_done |= frame.urgent
        self.detection_count = len(ids)
        self.partition = added.partition
        if self.frozen_digest is None:
            self.time_zone = added.time_zone
        self.traceparent = added.traceparent
        self.last_recorded_at, self.closed = now, False
        self.revision += 1
        self.evidence_revision = self.revision
        self.evidence_digest = self._digest(ids)
        return self.urgent_done and not urgent_before

    def _digest(self, detection_ids: Iterable[UUID]) -> str:
        """An event keeps the version of its evidence."""
        if self.frozen_digest is None:
            return digest_v1(detection_ids, self.history, self.time_zone)
        return digest_v2(detection_ids, self.frozen_digest)

    def amend(self, frozen_digest: bytes, detection_ids: Iterable[UUID]) -> None:
        """Something of what was frozen is another now. Clients see it as a change."""
        self.frozen_digest = frozen_digest
        self.revision += 1
        self.evidence_revision = self.revision
        self.evidence_digest = self._digest(detection_ids)

    def close(self) -> None:
        self.closed = True
        self.revision += 1

    def apply_assessment(self, assessment: StoredAssessment, answers_request: bool) -> bool:
        """Makes `assessment` the current one if it takes precedence. Returns whether it does.

        It takes precedence in any of these cases:

        - It has a higher evidence revision than the current assessment.
        - It was made from the event's evidence as it is now, and the current one was not. After a loss of the
          database, an assessment from the log can have a revision of the lost database.
        - It answers the waiting request (`answers_request`), unless it was made from outdated evidence and
          the current one from newer evidence.
        """
        up_to_date = assessment.evidence_digest == self.evidence_digest
        only_up_to_date = up_to_date and self.assessed_digest != self.evidence_digest
        newer = assessment.evidence_revision > self.assessed_revision
        as_new = up_to_date or assessment.evidence_revision == self.assessed_revision
        wins = newer or only_up_to_date or (answers_request and as_new)
        if wins:
            self.assessment_id, self.assessment = assessment.id, assessment.body
            self.assessed_digest, self.severity = assessment.evidence_digest, assessment.severity
            self.assessed_revision = max(self.assessed_revision, assessment.evidence_revision)
            self.status = ASSESSED
            self.revision += 1
        if wins or answers_request:
            self.failure_id = None
        return wins

    def record_failure(self, failure_id: UUID, *, requested: bool) -> None:
        """Records a failed attempt. Of several in a row, only the first is a change that clients see.

        `requested` means that a request waits. An event that needs no assessment without it stays assessed.
        """
        self.failure_id = failure_id
        if self.status != FAILED and (not requested or self.needs_assessment):
            self.status = FAILED
            self.revision += 1

    @property
    def needs_assessment(self) -> bool:
        """Whether the event is to be assessed without any request.

        A closed event needs an assessment of its evidence as it is now. An open event needs one only if it
        took the fast path and has not been assessed at all.
        """
        if self.closed:
            return self.evidence_digest != self.assessed_digest
        return self.urgent_done and self.assessment_id is None
