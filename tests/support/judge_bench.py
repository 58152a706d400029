"""A judge's worker with a store that keeps its promises, over a real socket, and a bus that is a list."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import (
    JobServiceServicer,
    add_JobServiceServicer_to_server,
)
from mesh.problems import Problem
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from reason_svc.evidence import Evidence
from reason_svc.judging import Judge
from reason_svc.leases import Leases
from reason_svc.messages import stamp
from reason_svc.reasoner import Report, State, Wish
from reason_svc.rules import Rules
from reason_svc.severity import Thresholds
from reason_svc.verdict import Verdict
from reason_svc.worker import Worker
from tests.support.evidence import evidence_message

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LEASE_SECONDS = 0.3
CONCURRENCY = 3


class FakeStore(JobServiceServicer):
    """A queue of leases. `problem` is raised instead of an answer while it is set."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[pb.JobLease] = asyncio.Queue()
        self.problem: Problem | None = None
        self.asked: list[int] = []
        self.renewed: list[str] = []
        self.released: list[str] = []
        self.refused = 0
        self.lost: set[str] = set()

    def due(self, name: str, attempt: int = 1, request: pb.ReassessmentRequest | None = None) -> pb.JobLease:
        lease = pb.JobLease(
            lease_id=str(uuid5(NAMESPACE_OID, f"lease of {name}")),
            subject_id=evidence_message(name).event_id,
            expires_at=stamp(NOW + timedelta(seconds=LEASE_SECONDS)),
            attempt=attempt,
            assess=pb.AssessInput(evidence=evidence_message(name), request=request),
        )
        self.queue.put_nowait(lease)
        return lease

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> pb.LeaseJobsResponse:
        assert request.kind == pb.JOB_KIND_ASSESS
        assert 0 < request.wait.seconds <= 30
        self.asked.append(request.max_jobs)
        if self.problem:
            raise self.problem
        leases = [await self.queue.get()]
        while len(leases) < request.max_jobs and not self.queue.empty():
            leases.append(self.queue.get_nowait())
        return pb.LeaseJobsResponse(leases=leases)

    async def RenewLeases(self, request: pb.RenewLeasesRequest, context: object) -> pb.RenewLeasesResponse:
        if self.problem:
            self.refused += 1
            raise self.problem
        self.renewed.extend(request.lease_ids)
        return pb.RenewLeasesResponse(lease_ids=[id for id in request.lease_ids if id not in self.lost])

    async def ReleaseLeases(
        self, request: pb.ReleaseLeasesRequest, context: object
    ) -> pb.ReleaseLeasesResponse:
        self.released.extend(request.lease_ids)
        return pb.ReleaseLeasesResponse()


class FakeReasoner:
    """Judges by the rules once `open` is set; raises `error` instead while there is one. `state` is what it
    says of itself, whatever it does."""

    name = "fake/v1"

    def __init__(self) -> None:
        self.slots = 64
        self.state = State.READY
        self.reports = 0
        self.wishes: list[Wish] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.judging = 0
        self.begun = 0
        self.cancelled = 0

    def report(self) -> Report:
        self.reports += 1
        return Report(self.state, NOW)

    async def judge(self, evidence: Evidence, wish: Wish) -> Verdict:
        self.wishes.append(wish)
        self.begun += 1
        self.judging += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.judging -= 1
        if self.error:
            raise self.error
        return replace(await Rules().judge(evidence, Wish()), reasoner=self.name)


@dataclass
class Log:
    """Stands for the bus: what was published, or the problem of a bus that is away."""

    facts: list[EventAssessed] = field(default_factory=list)
    problem: Problem | None = None
    tries: int = 0

    async def publish(self, fact: EventAssessed) -> None:
        self.tries += 1
        if self.problem:
            raise self.problem
        self.facts.append(fact)


@dataclass
class Bench:
    store: FakeStore
    reasoner: FakeReasoner
    log: Log
    worker: Worker

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
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    store, reasoner, log = FakeStore(), FakeReasoner(), Log()
    server = GrpcServer(CallInterceptor)
    server.add(add_JobServiceServicer_to_server, store, "lares.store.internal.v1.JobService")
    channels = Channels({}, {"store": await server.listen(f"unix:{folder}/s", door=Door.SIBLINGS)})
    await server.start()
    judge = Judge(reasoner, Thresholds(), lambda: NOW)
    worker = Worker(
        Leases(channels.to("store")),
        judge,
        log.publish,
        concurrency=CONCURRENCY,
        lease_seconds=LEASE_SECONDS,
        judge_seconds=120,
    )
    yield Bench(store, reasoner, log, worker)
    await channels.close()
    await server.stop(0)
