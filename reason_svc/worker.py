"""Assesses the events that are due: leases them from the store, asks the reasoner, publishes the result."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from opentelemetry.trace import Span

from lares.reason.v1.assessment_pb2 import Severity
from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.problems import Problem
from mesh.retry import Backoff
from mesh.task_group import task_group
from mesh.telemetry.spans import INTERNAL, Attributes, record_failure, request_span
from mesh.telemetry.trace_context import TRACEPARENT
from reason_svc.assessor import Assessor
from reason_svc.job_client import JobClient
from reason_svc.messages import assessment_fact, failure_fact
from reason_svc.reasoner import ReasonerReadiness

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
AWAY = (ReasonerReadiness.UNREACHABLE, ReasonerReadiness.LOADING)


@dataclass(slots=True)
class WorkCounts:
    """What a worker has done since it started. `assessing` is how many events it is assessing now."""

    assessing: int = 0
    assessed: int = 0
    failed: int = 0


class ReasonWorker:
    """Assesses up to `concurrency` events at the same time. `publish` returns once the fact is durable.

    An event stays in the store's queue until the store has read the fact, so no event is lost: if a worker
    dies, its leases expire. Nothing is leased while the reasoner reports that it is away. After an attempt
    that did not reach the reasoner or the log, nothing is leased for the pause that `backoff` gives.

    `assess_seconds` is a second deadline, for reasoners that miss their own.
    """

    def __init__(
        self,
        jobs: JobClient,
        assessor: Assessor,
        publish: Callable[[EventAssessed], Awaitable[None]],
        *,
        concurrency: int,
        lease_seconds: float,
        assess_seconds: float,
        backoff: Backoff,
    ) -> None:
        self._jobs = jobs
        self._assessor = assessor
        self._publish = publish
        self._concurrency = concurrency
        self._renew_seconds = lease_seconds / 3
        self._assess_seconds = assess_seconds
        self._backoff = backoff
        self._failures = 0
        self._resume_at = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by lease id
        self._counts = WorkCounts()

    def counts(self) -> WorkCounts:
        """Returns a copy."""
        return replace(self._counts, assessing=len(self._tasks))

    async def run(self) -> None:
        """Works until cancelled, then releases its leases. Raises a Problem that waiting cannot solve."""
        try:
            async with task_group() as group:
                group.create_task(self._renew_leases())
                while True:
                    await self._until_capacity()
                    for lease in await self._jobs.lease(self._capacity()):
                        self._tasks[lease.lease_id] = group.create_task(self._handle(lease))
        finally:
            if self._tasks:
                await self._jobs.release(self._tasks)

    async def _until_capacity(self) -> None:
        """Waits until another event may be leased, the reasoner is there and the pause is over."""
        while self._capacity() <= 0:
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        while (away := self._reasoner_is_away()) or self._pause() > 0:
            await asyncio.sleep(POLL_SECONDS if away else min(POLL_SECONDS, self._pause()))
            if away and not self._reasoner_is_away():  # the pause was for the reasoner that is back now
                self._resume_at = 0.0
                self._failures = 0

    def _reasoner_is_away(self) -> bool:
        return self._assessor.reasoner.report().state in AWAY

    def _pause(self) -> float:
        """Seconds until events may be leased again."""
        return self._resume_at - asyncio.get_running_loop().time()

    def _capacity(self) -> int:
        """How many more events may be leased: as many as the reasoner has free slots, up to `concurrency`."""
        return min(self._concurrency, self._assessor.reasoner.slots) - len(self._tasks)

    async def _handle(self, lease: JobLease) -> None:
        about: Attributes = {"lares.event.id": lease.subject_id, "lares.attempt": lease.attempt}
        parent = {TRACEPARENT: lease.traceparent} if lease.traceparent else {}
        with request_span(parent, "assess event", about, INTERNAL) as span:
            await self._assess_and_publish(lease, span)

    async def _assess_and_publish(self, lease: JobLease, span: Span) -> None:
        try:
            fact = await self._attempt(lease)
            await self._publish(fact)
        except Problem as problem:
            if not problem.retryable:
                raise
            record_failure(span, problem)
            await self._postpone(lease, problem)
        else:
            span.set_attributes(_span_attributes(fact))
            self._failures = 0
            if fact.HasField("failure"):
                self._counts.failed += 1
            else:
                self._counts.assessed += 1
            _log_fact(fact)
        self._tasks.pop(lease.lease_id, None)

    async def _attempt(self, lease: JobLease) -> EventAssessed:
        """Returns the fact of an assessment or of a failed attempt. Raises a retryable Problem if the
        reasoner could not be reached."""
        try:
            evidence, request = lease.assess.evidence, lease.assess.request
            async with self._assessor.slot(), asyncio.timeout(self._assess_seconds):
                return assessment_fact(evidence, *await self._assessor.assess(evidence, request))
        except Problem as problem:
            if problem.retryable:
                raise
            reason, detail = problem.reason, problem.message
        except TimeoutError:
            reason, detail = "TIMEOUT", f"no assessment within {self._assess_seconds:g} s"
        except Exception:
            log.exception("unexpected error in the reasoner", event_id=lease.subject_id)
            reason, detail = "INTERNAL", "unexpected error in the reasoner"
        return failure_fact(lease, reason, detail, self._assessor.clock())

    async def _postpone(self, lease: JobLease, problem: Problem) -> None:
        """Releases the lease and starts a pause, unless one has begun already: events that fail together
        count as one failure."""
        now = asyncio.get_running_loop().time()
        if now >= self._resume_at:
            self._failures += 1
            self._resume_at = now + self._backoff.pause(self._failures)
        pause = round(self._resume_at - now, 1)
        log.warning(
            "event not assessed, pausing", event_id=lease.subject_id, reason=problem.reason, pause=pause
        )
        await self._jobs.release([lease.lease_id])

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds * random.uniform(0.8, 1))  # noqa: S311  # not a secret
            if not self._tasks:
                continue
            for lost in await self._jobs.renew(list(self._tasks)):
                # Another worker has the job, or the event is assessed: the result is not needed any more.
                if task := self._tasks.pop(lost, None):
                    log.info("lease lost", lease_id=lost)
                    task.cancel()


def _span_attributes(fact: EventAssessed) -> dict[str, str | int]:
    if fact.HasField("failure"):
        return {"lares.failure.reason": fact.failure.reason}
    assessment = fact.assessment
    return {
        "lares.reasoner": assessment.reasoner,
        "lares.model": assessment.model,
        "lares.score": assessment.score,
    }


def _log_fact(fact: EventAssessed) -> None:
    about = {"event_id": fact.event_id, "camera": fact.camera_id}
    if fact.HasField("failure"):
        log.warning("assessment failed", reason=fact.failure.reason, **about)
        return
    severity = Severity.Name(fact.assessment.severity).removeprefix("SEVERITY_").lower()
    log.info("event assessed", score=fact.assessment.score, severity=severity, **about)
