"""An event together with its `assess` job, which change together. Pure: the current time is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from store_svc.domain.event import ASSESSED, FAILED, AddedFrames, StoredAssessment, StoredEvent
from store_svc.domain.job import ASSESS, URGENT, Job, Request
from store_svc.times import moment


@dataclass(slots=True)
class QueuedEvent:
    """The job exists while the event needs an assessment or a request waits.

    Only an assessment, or giving up a request, removes it: frames that join the event keep it.
    """

    event: StoredEvent
    job: Job | None = None
    # Whether something changed that people see.
    seen_change: bool = True

    def add_frames(self, added: AddedFrames, known_ids: Iterable[UUID], now: datetime) -> None:
        """Adds frames as one change. `known_ids` are the ids of the detections that the event already has.

        People do not see every few frames of a clip that goes on in an event that was assessed: only if these
        show something else, or more at once.
        """
        before = _shown(self.event)
        urgent = self.event.add_frames(added, known_ids, now)
        continues = self.event.status == ASSESSED and all(frame.of_clip for frame in added.frames)
        self.seen_change = not continues or _shown(self.event) != before
        if urgent:
            self._ensure_job(now).make_due(URGENT, now)
        if self.job is not None:
            self.job.rank_time = moment(self.event.started_at)
            self.job.input_digest = self.event.evidence_digest
            if self.job.request is None:
                self.job.traceparent = self.event.traceparent

    def amend(self, frozen_digest: bytes, detection_ids: Iterable[UUID], now: datetime) -> None:
        """Something of what was frozen is another now. Makes an assessment due unless the event is open and
        none was made of it: then it is assessed when it is closed."""
        self.event.amend(frozen_digest, detection_ids)
        if self.event.needs_assessment or self.event.assessment_id is not None:
            self._ensure_job(now).make_due(self._priority, now)
        if self.job is not None:
            self.job.input_digest = self.event.evidence_digest

    def close(self, now: datetime) -> None:
        """Closes the event, and creates its job unless its evidence has been assessed."""
        self.event.close()
        if self.event.needs_assessment:
            self._ensure_job(now)

    def request_assessment(self, request: Request, now: datetime, traceparent: str | None = None) -> None:
        """Makes the job due at once, before all others, as part of the request's trace.

        Clients see no change of the event.
        """
        job = self._ensure_job(now)
        job.set_request(request, now)
        job.traceparent = traceparent

    def apply_assessment(self, assessment: StoredAssessment) -> bool:
        """Makes `assessment` the current one if it takes precedence, and ends the request that it answers.

        Returns whether it did either. Each request is answered once: a later answer to the same request does
        not take precedence for it.
        """
        answers = self.job is not None and self.job.end_request(assessment.request_id, self._priority)
        wins = self.event.apply_assessment(assessment, answers)
        if wins and self.job is not None:
            self.job.clear_failures()
        if wins or answers:
            self._update_job()
        return wins or answers

    def record_failure(self, failure_id: UUID, digest: str, now: datetime) -> bool:
        """Records a failed attempt to assess the evidence with this digest, which will be retried.

        Returns False, and changes nothing, if there is no job, or if this evidence has been assessed and no
        request waits. A request is given up after REQUEST_ATTEMPTS failures.
        """
        event, job = self.event, self.job
        if job is None or (digest == event.assessed_digest and job.request is None):
            return False
        event.record_failure(failure_id, requested=job.request is not None)
        job.record_failure(self._priority, now)
        job.failed = event.status == FAILED
        if job.request is not None and job.request_exhausted:
            self.give_up_request(failure_id, job.request.id)
        return True

    def give_up_request(self, failure_id: UUID, request_id: UUID) -> bool:
        """Ends a request without an assessment. Returns whether it was still waiting."""
        ended = self.job is not None and self.job.end_request(request_id, self._priority)
        if ended:
            self.event.failure_id = failure_id
            self._update_job()
        return ended

    @property
    def _priority(self) -> int:
        """The priority of the job without a request."""
        return URGENT if self.event.urgent_done else 0

    def _ensure_job(self, now: datetime) -> Job:
        """Returns the job, which is created, due now, if there is none."""
        if self.job is None:
            event = self.event
            self.job = Job(
                ASSESS,
                event.id,
                event.camera_id,
                rank_time=moment(event.started_at),
                due_at=now,
                waiting_since=now,
                priority=self._priority,
                input_digest=event.evidence_digest,
                traceparent=event.traceparent,
            )
        return self.job

    def _update_job(self) -> None:
        """Ends the lease after a fact, and removes the job if there is nothing more to do.

        The job of an open event is created again when the event is closed.
        """
        if self.job is not None and self.job.request is None and not self.event.needs_assessment:
            self.job = None
        if self.job is not None:
            self.job.end_lease()
            if self.job.request is None:
                self.job.traceparent = self.event.traceparent


def _shown(event: StoredEvent) -> tuple[object, ...]:
    return event.labels, event.zones, event.most_at_once, event.closed
