"""A ReasonWorker with a fake reasoner, a fake store behind a real socket, and a list instead of a bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import NAMESPACE_OID, uuid5

from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from mesh.job_client import JobClient
from mesh.problems import Problem
from mesh.retry import DEFAULT_BACKOFF, Backoff
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from reason_svc.assessor import Assessor
from reason_svc.evidence import Evidence
from reason_svc.messages import timestamp
from reason_svc.reasoner import ModelChoice, ReasonerReadiness, ReasonerReport, ReasonerResult
from reason_svc.rules.reasoner import RulesReasoner
from reason_svc.severity import SeverityThresholds
from reason_svc.worker import ReasonWorker
from tests.support.evidence import evidence_message
from tests.support.fake_job_service import FakeJobService

NOW = datetime(2026, 11, 21, tzinfo=UTC)
# Long, so that no lease is lost on a busy machine, and renewed often nevertheless.
LEASE_SECONDS, RENEW_SECONDS = 600.0, 0.1
CONCURRENCY = 3


class FakeStore(FakeJobService):
    """Hands out events to assess."""

    def __init__(self) -> None:
        super().__init__(pb.JOB_KIND_ASSESS)

    def due(self, name: str, attempt: int = 1, request: pb.ReassessmentRequest | None = None) -> pb.JobLease:
        lease = pb.JobLease(
            lease_id=str(uuid5(NAMESPACE_OID, f"lease of {name}")),
            subject_id=evidence_message(name).event_id,
            expires_at=timestamp(NOW + timedelta(seconds=LEASE_SECONDS)),
            attempt=attempt,
            assess=pb.AssessInput(evidence=evidence_message(name), request=request),
        )
        self.queue.put_nowait(lease)
        return lease


class FakeReasoner:
    """Assesses by the rules once `open` is set; raises `error` instead, if set. `state` is only reported: it
    does not change how assessments end."""

    name = "fake/v1"

    def __init__(self) -> None:
        self.slots = 64
        self.state = ReasonerReadiness.READY
        self.reports = 0
        self.choices: list[ModelChoice] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.assessing = 0
        self.begun = 0
        self.cancelled = 0

    def report(self) -> ReasonerReport:
        self.reports += 1
        return ReasonerReport(self.state, NOW)

    async def assess(self, evidence: Evidence, choice: ModelChoice) -> ReasonerResult:
        self.choices.append(choice)
        self.begun += 1
        self.assessing += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.assessing -= 1
        if self.error:
            raise self.error
        return replace(await RulesReasoner().assess(evidence, ModelChoice()), reasoner=self.name)


@dataclass
class FakeLog:
    """Collects the published facts. While `problem` is set, publishing raises it; it waits for `open`."""

    facts: list[EventAssessed] = field(default_factory=list)
    problem: Problem | None = None
    tries: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def publish(self, fact: EventAssessed) -> None:
        self.tries += 1
        await self.open.wait()
        if self.problem:
            raise self.problem
        self.facts.append(fact)


@dataclass
class ReasonWorkerBench:
    store: FakeStore
    reasoner: FakeReasoner
    log: FakeLog
    worker: ReasonWorker

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        with as_itself():
            task = asyncio.create_task(self.worker.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_reason_worker(
    folder: Path,
    *,
    assess_seconds: float = 120,
    lease_seconds: float = LEASE_SECONDS,
    renew_seconds: float = RENEW_SECONDS,
    backoff: Backoff = DEFAULT_BACKOFF,
) -> AsyncIterator[ReasonWorkerBench]:
    """`folder` takes the store's socket."""
    store, reasoner, log = FakeStore(), FakeReasoner(), FakeLog()
    server = GrpcServer(CallInterceptor)
    server.add(add_JobServiceServicer_to_server, store, "lares.store.internal.v1.JobService")
    channels = Channels({}, {"store": await server.listen(f"unix:{folder}/s", door=Door.SIBLINGS)})
    await server.start()
    assessor = Assessor(reasoner, SeverityThresholds(), lambda: NOW)
    with patch("mesh.job_worker.RENEWALS", lease_seconds / renew_seconds):
        worker = ReasonWorker(
            JobClient(channels.to("store"), pb.JOB_KIND_ASSESS),
            assessor,
            log.publish,
            concurrency=CONCURRENCY,
            lease_seconds=lease_seconds,
            assess_seconds=assess_seconds,
            backoff=backoff,
        )
    yield ReasonWorkerBench(store, reasoner, log, worker)
    await channels.close()
    await server.stop(0)
