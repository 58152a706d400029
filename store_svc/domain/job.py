"""A job of the queue: its priority, its attempts and pauses, and the request that it carries.

Pure: the current time is an argument.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

# The numbers of lares.store.internal.v1.JobKind.
ASSESS, RENDER = 1, 2

# Priorities; the highest is leased first. A request that has failed no longer raises the priority.
URGENT, REQUESTED = 1, 2

RETRY_SECONDS = 1.0  # the pause after the first failed attempt, which doubles with each further one
RETRY_MAX_SECONDS = 300.0  # the longest pause
REQUEST_ATTEMPTS = 5  # failed attempts after which a request is given up


@dataclass(frozen=True, slots=True)
class Request:
    """A request for another assessment. Empty `model` and `prompt` mean the configured ones."""

    id: UUID
    model: str = ""
    prompt: str = ""


@dataclass(slots=True)
class Job:
    """A row of `jobs`, without its id.

    There is at most one job of a kind and subject, and it exists as long as there is work to do.
    `waiting_since` is when it was created, however often it has failed. `input_digest` is the digest of the
    subject's input as it is now. `failed` means that the subject shows a failure; `hastened` is set by the
    first success of another job after that. `traceparent` is the trace of the photo or request that made the
    job due, if it is recorded. `progress` is how much its worker has done, 0..1.
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
    progress: float = 0.0

    def make_due(self, priority: int, now: datetime) -> None:
        """Makes the job due at once, with at least this priority."""
        self.due_at, self.priority = now, max(self.priority, priority)

    def set_request(self, request: Request, now: datetime) -> None:
        """Adds a request, and makes the job due at once, before all others.

        A request that is still waiting is replaced, and the lease of its worker ends.
        """
        if self.request is not None:
            self.end_lease()
        self.request, self.attempts = request, 0
        self.make_due(REQUESTED, now)

    def end_request(self, request_id: UUID | None, priority: int) -> bool:
        """Removes the request, and lowers the job to `priority`. Returns whether this request was waiting."""
        if self.request is None or self.request.id != request_id:
            return False
        self.request, self.priority = None, priority
        return True

    def clear_failures(self) -> None:
        self.attempts, self.failed, self.hastened = 0, False, False

    def record_failure(self, priority: int, now: datetime) -> None:
        """Counts a failed attempt, ends the lease, lowers the job to `priority`, and starts a pause."""
        self.attempts += 1
        self.due_at, self.priority = now + retry_after(self.attempts), priority
        self.end_lease()

    @property
    def request_exhausted(self) -> bool:
        """Whether the request has failed as often as a request may."""
        return self.request is not None and self.attempts >= REQUEST_ATTEMPTS

    def end_lease(self) -> None:
        self.lease_id, self.leased_until, self.progress = None, None, 0.0


def retry_after(attempts: int) -> timedelta:
    """Returns the pause after this number of failed attempts."""
    return timedelta(seconds=min(RETRY_MAX_SECONDS, RETRY_SECONDS * 2.0 ** (min(attempts, 30) - 1)))
