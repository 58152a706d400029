"""A rendition together with its `render` job, which change together. Pure: the current time is an
argument."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from lares.detect.v1.events_pb2 import RenderedBlob, RenderFailure
from store_svc.domain.job import RENDER, Job

# The numbers of lares.store.v1.RenditionState.
WAITING, READY, FAILED = 1, 2, 3

ATTEMPTS = 5  # failed ones after which a rendition is given up
# How long one that was given up is kept. Until then, requests learn why, and do not queue it again.
FAILED_KEPT = timedelta(hours=1)
# The use of a rendition is written at most once in this time.
USE_INTERVAL = timedelta(minutes=1)


@dataclass(slots=True)
class StoredRendition:
    """A row of `renditions`. `input` is a serialised RenderInput, which is dropped when the rendition no
    longer waits. `requested_by` is the id of a key."""

    id: UUID
    kind: int
    subject_id: UUID
    camera_id: str
    input: bytes
    requested_by: str
    requested_at: datetime
    last_used_at: datetime
    state: int = WAITING
    recorded_at: datetime | None = None
    blob: RenderedBlob | None = None
    failure: RenderFailure | None = None


@dataclass(slots=True)
class QueuedRendition:
    """The job exists while the rendition waits."""

    rendition: StoredRendition
    job: Job | None

    def complete(self, blob: RenderedBlob, now: datetime) -> bool:
        """Returns False, and changes nothing, if there is a blob already: the first one counts."""
        rendition = self.rendition
        if rendition.state == READY:
            return False
        rendition.state, rendition.blob, rendition.failure = READY, blob, None
        self._end(now)
        return True

    def fail(self, failure: RenderFailure, now: datetime) -> bool:
        """Counts a failed attempt, and gives up after ATTEMPTS, or if the failure is permanent.

        Returns False, and changes nothing, if the rendition does not wait, or if this attempt was the last
        one to be counted. A failure without an id always counts.
        """
        rendition, job = self.rendition, self.job
        repeated = rendition.failure is not None and failure.id and rendition.failure.id == failure.id
        if job is None or repeated:
            return False
        rendition.failure = failure
        job.record_failure(job.priority, now)
        if failure.permanent or job.attempts >= ATTEMPTS:
            rendition.state = FAILED
            self._end(now)
        return True

    def _end(self, now: datetime) -> None:
        self.job, self.rendition.input, self.rendition.recorded_at = None, b"", now


def new_rendition(
    id: UUID,
    kind: int,
    subject_id: UUID,
    camera_id: str,
    input: bytes,
    requested_by: str,
    now: datetime,
    traceparent: str | None,
) -> QueuedRendition:
    """One that waits to be made, from now on."""
    job = Job(RENDER, id, camera_id, rank_time=now, due_at=now, waiting_since=now, traceparent=traceparent)
    rendition = StoredRendition(
        id, kind, subject_id, camera_id, input, requested_by, requested_at=now, last_used_at=now
    )
    return QueuedRendition(rendition, job)
