"""The loop of the judge: leases due events from the store, judges them, publishes what came out."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
from opentelemetry.trace import Span

from lares.reason.v1.assessment_pb2 import Severity
from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.problems import Problem
from mesh.task_group import task_group
from mesh.telemetry.spans import INTERNAL, Attributes, record_failure, request_span
from mesh.telemetry.trace_context import TRACEPARENT
from reason_svc.backoff import Backoff
from reason_svc.judging import Judge
from reason_svc.leases import Leases
from reason_svc.messages import assessed, failed
from reason_svc.reasoner import State
from reason_svc.tally import Tally

log = structlog.get_logger(__name__)

PAUSES = (0.5, 30.0)
LOOK_SECONDS = 0.25
AWAY = (State.UNREACHABLE, State.LOADING)


class Worker:
    """Judges up to `concurrency` events at once. `publish` returns when the fact is durable.

    An event is in the store's queue until its fact is read back from the log, so nothing here can be lost: a
    worker that dies leaves leases that expire. While the judge says that it is away, nothing is leased.
    """

    def __init__(
        self,
        leases: Leases,
        judge: Judge,
        publish: Callable[[EventAssessed], Awaitable[None]],
        *,
        concurrency: int,
        lease_seconds: float,
        judge_seconds: float,
    ) -> None:
        self._leases = leases
        self._judge = judge
        self._publish = publish
        self._concurrency = concurrency
        self._renew_seconds = lease_seconds / 3
        self._judge_seconds = judge_seconds
        self._held: dict[str, asyncio.Task[None]] = {}
        self._tally = Tally()
        self._backoff = Backoff(*PAUSES)
        self._resume_at = 0.0

    def tally(self) -> Tally:
        """As of now; a copy."""
        return replace(self._tally, assessing=len(self._held))

    async def run(self) -> None:
        """Until cancelled; raises what no waiting can mend. What was in hand goes back to the store."""
        try:
            async with task_group() as group:
                group.create_task(self._renew())
                while True:
                    await self._until_wanted()
                    for lease in await self._leases.take(self._room()):
                        self._held[lease.lease_id] = group.create_task(self._handle(lease))
        finally:
            if self._held:
                await self._leases.release(self._held)

    async def _until_wanted(self) -> None:
        """Until there is room for another event and the judge is not being left alone."""
        while self._room() <= 0:
            await asyncio.wait(self._held.values(), return_when=asyncio.FIRST_COMPLETED)
        while (away := self._away()) or self._pause() > 0:
            await asyncio.sleep(LOOK_SECONDS if away else min(LOOK_SECONDS, self._pause()))
            if away and not self._away():  # it is back: no pause that it earned before still counts
                self._resume_at = 0.0
                self._backoff.worked()

    def _away(self) -> bool:
        return self._judge.reasoner.report().state in AWAY

    def _pause(self) -> float:
        """Seconds for which the judge is still left alone."""
        return self._resume_at - asyncio.get_running_loop().time()

    def _room(self) -> int:
        """How many more events may be in hand: as many as the judge has slots, within our own bound."""
        return min(self._concurrency, self._judge.reasoner.slots) - len(self._held)

    async def _handle(self, lease: JobLease) -> None:
        about: Attributes = {"lares.event.id": lease.subject_id, "lares.attempt": lease.attempt}
        following = {TRACEPARENT: lease.traceparent} if lease.traceparent else {}
        with request_span(following, "assess event", about, INTERNAL) as span:
            await self._settle(lease, span)

    async def _settle(self, lease: JobLease, span: Span) -> None:
        try:
            fact = await self._attempt(lease)
            await self._publish(fact)
        except Problem as problem:
            if not problem.retryable:
                raise
            record_failure(span, problem)
            await self._put_off(lease, problem)
        else:
            span.set_attributes(_outcome(fact))
            self._backoff.worked()
            if fact.HasField("failure"):
                self._tally.failed += 1
            else:
                self._tally.assessed += 1
            _say(fact)
        self._held.pop(lease.lease_id, None)

    async def _attempt(self, lease: JobLease) -> EventAssessed:
        """The judgement, or the failure. Raises a retryable Problem: nobody was there to judge."""
        try:
            evidence, request = lease.assess.evidence, lease.assess.request
            async with self._judge.turn(), asyncio.timeout(self._judge_seconds):
                return assessed(evidence, *await self._judge.assess(evidence, request))
        except Problem as problem:
            if problem.retryable:
                raise
            reason, detail = problem.reason, problem.message
        except TimeoutError:
            reason, detail = "TIMEOUT", f"no judgement within {self._judge_seconds:g} s"
        except Exception:
            log.exception("the judge broke", event_id=lease.subject_id)
            reason, detail = "INTERNAL", "the judge broke"
        return failed(lease, reason, detail, self._judge.clock())

    async def _put_off(self, lease: JobLease, problem: Problem) -> None:
        """Gives the event back, unjudged, and leaves the judge alone for a while."""
        now = asyncio.get_running_loop().time()
        if now >= self._resume_at:  # those that fail together count once
            self._resume_at = now + self._backoff.failed()
        pause = round(self._resume_at - now, 1)
        log.warning("not judged", event_id=lease.subject_id, reason=problem.reason, pause=pause)
        await self._leases.release([lease.lease_id])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds * random.uniform(0.8, 1))  # noqa: S311  # no secret
            if not self._held:
                continue
            for lost in await self._leases.lost(list(self._held)):
                # Another has it, or it was assessed: whatever we would say of it no longer matters.
                if task := self._held.pop(lost, None):
                    log.info("lease lost", lease_id=lost)
                    task.cancel()


def _outcome(fact: EventAssessed) -> dict[str, str | int]:
    if fact.HasField("failure"):
        return {"lares.failure.reason": fact.failure.reason}
    made = fact.assessment
    return {"lares.reasoner": made.reasoner, "lares.model": made.model, "lares.score": made.score}


def _say(fact: EventAssessed) -> None:
    about = {"event_id": fact.event_id, "camera": fact.camera_id}
    if fact.HasField("failure"):
        log.warning("judging failed", reason=fact.failure.reason, **about)
        return
    verdict = fact.assessment
    severity = Severity.Name(verdict.severity).removeprefix("SEVERITY_").lower()
    log.info("event judged", score=verdict.score, severity=severity, **about)
