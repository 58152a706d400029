"""Assesses the events that are due: leases them from the store, asks the reasoner, publishes the result."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from opentelemetry.trace import Span

from lares.reason.v1.assessment_pb2 import Severity
from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.job_client import JobClient
from mesh.job_worker import JobWorker
from mesh.problems import Problem
from mesh.retry import Backoff
from mesh.telemetry.spans import INTERNAL, Attributes, request_span
from mesh.telemetry.trace_context import TRACEPARENT
from reason_svc.assessor import Assessor
from reason_svc.messages import assessment_fact, failure_fact
from reason_svc.reasoner import ReasonerReadiness

log = structlog.get_logger(__name__)

AWAY = (ReasonerReadiness.UNREACHABLE, ReasonerReadiness.LOADING)


@dataclass(slots=True)
class WorkCounts:
    """What a worker has done since it started. `assessing` is how many events it is assessing now."""

    assessing: int = 0
    assessed: int = 0
    failed: int = 0


class ReasonWorker:
    """Assesses as many events at the same time as the reasoner has free slots, up to `concurrency`. `publish`
    returns once the fact is durable.

    An attempt that did not reach the reasoner or the log does not count (see JobWorker). `assess_seconds` is
    a second deadline, for reasoners that miss their own.
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
        self._assessor = assessor
        self._publish = publish
        self._assess_seconds = assess_seconds
        self._counts = WorkCounts()
        self._jobs = JobWorker(
            jobs,
            self._handle,
            capacity=lambda: min(concurrency, assessor.reasoner.slots),
            lease_seconds=lease_seconds,
            backoff=backoff,
            is_away=lambda: assessor.reasoner.report().state in AWAY,
        )

    def counts(self) -> WorkCounts:
        """Returns a copy."""
        return replace(self._counts, assessing=self._jobs.working)

    async def run(self) -> None:
        """Works until cancelled. Raises a Problem that waiting cannot solve."""
        await self._jobs.run()

    async def _handle(self, lease: JobLease) -> None:
        about: Attributes = {"lares.event.id": lease.subject_id, "lares.attempt": lease.attempt}
        parent = {TRACEPARENT: lease.traceparent} if lease.traceparent else {}
        with request_span(parent, "assess event", about, INTERNAL) as span:
            await self._assess_and_publish(lease, span)

    async def _assess_and_publish(self, lease: JobLease, span: Span) -> None:
        fact = await self._attempt(lease)
        async with self._jobs.publishing(lease):
            await self._publish(fact)
        span.set_attributes(_span_attributes(fact))
        if fact.HasField("failure"):
            self._counts.failed += 1
        else:
            self._counts.assessed += 1
        _log_fact(fact)

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
