"""One event's life: it grows, is closed, judged, or judged in vain. Pure: the clock is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from store_svc.evidence import History, digest

# store.v1.EventStatus
PENDING, ASSESSED, FAILED = 1, 2, 3
# Higher is judged first: somebody waits for what was asked for, but nobody for what failed already.
URGENT, ASKED = 1, 2

RETRY_SECONDS = 1.0  # doubled by every failed attempt,
RETRY_MOST_SECONDS = 300.0  # up to this
REQUEST_ATTEMPTS = 5  # then a request is given up


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
class Request:
    """Somebody asks for another judgement. Empty `model` and `prompt` mean the configured ones."""

    id: UUID
    model: str = ""
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
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

    The lease's columns belong to the lease alone, but for `released`: the next write ends it. `due_at` is set
    while there is something to judge or a request to answer: since `waiting_since`, however often it was
    tried in vain. `failure_id` is that of the last failure, until something succeeds. What people see changes
    only with `revision`. `hastened` is set by the first success elsewhere after it failed.
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
    waiting_since: datetime | None = None
    urgent_done: bool = False
    priority: int = 0
    attempts: int = 0
    hastened: bool = False
    failure_id: UUID | None = None
    request: Request | None = None
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
                self.urgent_done, self.priority = True, max(self.priority, URGENT)
                self._want(now)
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
        if self._unjudged and self.due_at is None:
            self._want(now)

    def ask(self, request: Request, now: datetime) -> None:
        """Due at once, before all others, until the request is answered or given up. It replaces one that
        waits, and whoever judges for that one may stop. Nobody sees a change."""
        self.released |= self.request is not None
        self.request, self.priority, self.attempts = request, ASKED, 0
        self._want(now)

    def judge(self, judgement: Judgement) -> bool:
        """Makes it the current assessment if it wins, and ends the request that it answers; whether it did
        any of this.

        The highest evidence revision wins. So does the only one that judged the evidence of now: the same
        assessment may come from an earlier life of this store, with other revisions. And so does the answer
        to the request, but for one of outgrown evidence after a judgement of newer. A request is answered
        once: what answers it again, however late, takes over from nobody.
        """
        current = judgement.evidence_digest == self.evidence_digest
        alone = current and self.assessed_digest != self.evidence_digest
        newer = judgement.evidence_revision > self.assessed_revision
        asked = self._ends(judgement.request_id)
        as_new = current or judgement.evidence_revision == self.assessed_revision
        wins = newer or alone or (asked and as_new)
        if wins:
            self.assessment_id, self.assessment = judgement.id, judgement.body
            self.assessed_digest, self.severity = judgement.evidence_digest, judgement.severity
            self.assessed_revision = max(self.assessed_revision, judgement.evidence_revision)
            self.status, self.attempts, self.hastened = ASSESSED, 0, False
            self.revision += 1
        if wins or asked:
            self.failure_id = None
            self._settle()
        return wins or asked

    def fail(self, failure_id: UUID, evidence_digest: str, now: datetime) -> bool:
        """Counts a failed attempt, to be tried again later; whether it mattered: not after a judgement of the
        same evidence, nor where nothing is due. What was judged stays so while only a request is not met.
        Of several in a row only the first is a change that people see; a request bears no more than
        REQUEST_ATTEMPTS."""
        if self.due_at is None or (evidence_digest == self.assessed_digest and self.request is None):
            return False
        self.attempts += 1
        self.failure_id, self.released = failure_id, True
        self.due_at, self.priority = now + retry_after(self.attempts), self._rank
        if self.status != FAILED and (self.request is None or self._unjudged):
            self.status = FAILED
            self.revision += 1
        if self.request and self.attempts >= REQUEST_ATTEMPTS:
            self.give_up(failure_id, self.request.id)
        return True

    def give_up(self, failure_id: UUID, request_id: UUID) -> bool:
        """Ends a request that is not met; whether it was still waiting."""
        ended = self._ends(request_id)
        if ended:
            self.failure_id = failure_id
            self._settle()
        return ended

    @property
    def _unjudged(self) -> bool:
        """Due without any request: an open event only by the fast path, until its first judgement."""
        if self.closed:
            return self.evidence_digest != self.assessed_digest
        return self.urgent_done and self.assessment_id is None

    @property
    def _rank(self) -> int:
        """Its priority where nobody asked."""
        return URGENT if self.urgent_done else 0

    def _want(self, now: datetime) -> None:
        self.due_at, self.waiting_since = now, self.waiting_since or now

    def _ends(self, request_id: UUID | None) -> bool:
        """Whether it was waiting for this one; it no longer is."""
        if self.request is None or self.request.id != request_id:
            return False
        self.request, self.priority = None, self._rank
        return True

    def _settle(self) -> None:
        """Ends the lease, and leaves the queue where nothing more is to be judged: an open event comes again
        when it is closed."""
        self.released = True
        if self.request is None and not self._unjudged:
            self.due_at, self.waiting_since, self.attempts = None, None, 0


def retry_after(attempts: int) -> timedelta:
    """How long an event waits after that many failed attempts."""
    return timedelta(seconds=min(RETRY_MOST_SECONDS, RETRY_SECONDS * 2.0 ** (min(attempts, 30) - 1)))
