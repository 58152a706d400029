"""An event and its `assess` job, which change together. Pure: the clock is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from store_svc.domain.event import FAILED, AddedFrames, StoredAssessment, StoredEvent
from store_svc.domain.job import ASSESS, URGENT, Job, Request
from store_svc.times import moment


@dataclass(slots=True)
class QueuedEvent:
    """The job exists while the event is to be assessed, or somebody waits for an answer. Once it was made,
    only an assessment, or giving up, takes it away: an event that grows keeps it."""

    event: StoredEvent
    job: Job | None = None

    def add_frames(self, added: AddedFrames, known: Iterable[UUID], now: datetime) -> None:
        """One change, whatever joined. `known` are the ids of the detections it has already."""
        if self.event.add_frames(added, known, now):
            self._job(now).make_due(URGENT, now)
        if self.job is not None:
            self.job.rank_time = moment(self.event.started_at)
            self.job.input_digest = self.event.evidence_digest
            if self.job.request is None:
                self.job.traceparent = self.event.traceparent

    def close(self, now: datetime) -> None:
        """Due, unless this very evidence was assessed."""
        self.event.close()
        if self.event.wants_assessment:
            self._job(now)

    def request_assessment(self, request: Request, now: datetime, traceparent: str | None = None) -> None:
        """Due at once, before all others, as part of the request's trace. Nobody sees a change."""
        job = self._job(now)
        job.set_request(request, now)
        job.traceparent = traceparent

    def apply_assessment(self, assessment: StoredAssessment) -> bool:
        """Makes it the current assessment if it wins, and ends the request that it answers; whether it did
        any of this. A request is answered once: what answers it again, however late, takes over from nobody.
        """
        answers = self.job is not None and self.job.end_request(assessment.request_id, self._rank)
        wins = self.event.apply_assessment(assessment, answers)
        if wins and self.job is not None:
            self.job.clear_failures()
        if wins or answers:
            self._settle()
        return wins or answers

    def record_failure(self, failure_id: UUID, evidence_digest: str, now: datetime) -> bool:
        """Counts a failed attempt, to be tried again later; whether it mattered: not after an assessment of
        the same evidence, nor where there is no job. What was assessed stays so while only a request is not
        met. A request bears no more than REQUEST_ATTEMPTS."""
        event, job = self.event, self.job
        if job is None or (evidence_digest == event.assessed_digest and job.request is None):
            return False
        event.record_failure(failure_id, asked=job.request is not None)
        job.record_failure(self._rank, now)
        job.failed = event.status == FAILED
        if job.request is not None and job.attempts_exhausted:
            self.give_up_request(failure_id, job.request.id)
        return True

    def give_up_request(self, failure_id: UUID, request_id: UUID) -> bool:
        """Ends a request that is not met; whether it was still waiting."""
        ended = self.job is not None and self.job.end_request(request_id, self._rank)
        if ended:
            self.event.failure_id = failure_id
            self._settle()
        return ended

    @property
    def _rank(self) -> int:
        """Its priority where nobody asked."""
        return URGENT if self.event.urgent_done else 0

    def _job(self, now: datetime) -> Job:
        """The one that there is, or a new one, due now."""
        if self.job is None:
            event = self.event
            self.job = Job(
                ASSESS,
                event.id,
                event.camera_id,
                rank_time=moment(event.started_at),
                due_at=now,
                waiting_since=now,
                priority=self._rank,
                input_digest=event.evidence_digest,
                traceparent=event.traceparent,
            )
        return self.job

    def _settle(self) -> None:
        """After a fact: ends the lease, and the job where nothing more is wanted. An open event comes again
        when it is closed."""
        if self.job is not None and self.job.request is None and not self.event.wants_assessment:
            self.job = None
        if self.job is not None:
            self.job.end_lease()
            if self.job.request is None:
                self.job.traceparent = self.event.traceparent
