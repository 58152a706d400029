"""A job of the queue: its rank, its attempts and pauses, the request that it carries. Pure: the clock is an
argument."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

# Kinds: store.internal.v1.JobKind
ASSESS = 1

# Higher is leased first: somebody waits for what was asked for, but nobody for what failed already.
URGENT, REQUESTED = 1, 2

RETRY_SECONDS = 1.0  # doubled by every failed attempt,
RETRY_MAX_SECONDS = 300.0  # up to this
REQUEST_ATTEMPTS = 5  # then a request is given up


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for another assessment. Empty `model` and `prompt` mean the configured ones."""

    id: UUID
    model: str = ""
    prompt: str = ""


@dataclass(slots=True)
class Job:
    """A row of `jobs`, but for its id. There is at most one of a kind and subject, and it exists while there
    is work to do: since `waiting_since`, however often it was tried in vain.

    `input_digest` is that of the input as the subject has it now. `failed` says that the subject shows a
    failure; `hastened` is set by the first success elsewhere after it. `traceparent` is the trace of the
    photo or the request that made it due, if it is recorded.
    """

    kind: int
    subject_id: UUID
    camera_id: str
    rank_time: datetime
    due_at: datetime
    waiting_since: datetime
    priority: int = 0
    attempts: int = 0
    failed: bool = False
    hastened: bool = False
    input_digest: str = ""
    request: Request | None = None
    lease_id: UUID | None = None
    leased_until: datetime | None = None
    traceparent: str | None = None

    def make_due(self, priority: int, now: datetime) -> None:
        """Due at once, with at least this priority."""
        self.due_at, self.priority = now, max(self.priority, priority)

    def set_request(self, request: Request, now: datetime) -> None:
        """Due at once, before all others, until the request is answered or given up. It replaces one that
        waits, and ends the lease of whoever works for that one."""
        if self.request is not None:
            self.end_lease()
        self.request, self.attempts = request, 0
        self.make_due(REQUESTED, now)

    def end_request(self, request_id: UUID | None, rank: int) -> bool:
        """Whether it was waiting for this one; it no longer is, and falls back to `rank`."""
        if self.request is None or self.request.id != request_id:
            return False
        self.request, self.priority = None, rank
        return True

    def clear_failures(self) -> None:
        """Forgets the failures."""
        self.attempts, self.failed, self.hastened = 0, False, False

    def record_failure(self, rank: int, now: datetime) -> None:
        """Counts a failed attempt: it falls back to `rank` and pauses. Ends the lease."""
        self.attempts += 1
        self.due_at, self.priority = now + retry_after(self.attempts), rank
        self.end_lease()

    @property
    def attempts_exhausted(self) -> bool:
        """Whether the request has failed as often as a request may."""
        return self.request is not None and self.attempts >= REQUEST_ATTEMPTS

    def end_lease(self) -> None:
        self.lease_id, self.leased_until = None, None


def retry_after(attempts: int) -> timedelta:
    """How long a job pauses after that many failed attempts."""
    return timedelta(seconds=min(RETRY_MAX_SECONDS, RETRY_SECONDS * 2.0 ** (min(attempts, 30) - 1)))
