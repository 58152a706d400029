"""Client of the store's queue of jobs."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceStub
from mesh.problems import Internal, Problem
from mesh.retry import Backoff
from mesh.rpc import call
from mesh.telemetry.metrics import Instrument, Metrics

log = structlog.get_logger(__name__)

WAIT_SECONDS = 25  # the store allows at most 30
ANSWER_SECONDS = 10.0
RELEASE_SECONDS = 1.0
BACKOFF = Backoff(0.1, 5.0)
WORKING = Instrument("lares_jobs_working", "gauge", "Jobs that this process does now.", ("kind",))
SECONDS = Instrument(
    "lares_job_seconds", "histogram", "From a job that was leased to its end, done or not.", ("kind",)
)
INSTRUMENTS = (WORKING, SECONDS)


class JobClient:
    """Leases jobs of one kind, renews their leases and releases them."""

    def __init__(
        self, store: grpc.aio.Channel, kind: pb.JobKind.ValueType, metrics: Metrics | None = None
    ) -> None:
        self._store = JobServiceStub(store)
        self._kind = kind
        metrics, name = metrics or Metrics(), pb.JobKind.Name(kind).removeprefix("JOB_KIND_").lower()
        # Of who does the jobs.
        self.working, self.seconds = (
            metrics.gauge(WORKING).labels(name),
            metrics.histogram(SECONDS).labels(name),
        )
        self._failures = 0

    async def lease(self, max_jobs: int) -> Sequence[pb.JobLease]:
        """Leases up to `max_jobs` jobs as soon as one is due.

        Returns nothing if none was due for a while, or, after a pause, if the store could not be reached.
        Raises a Problem that cannot be solved by waiting.
        """
        request = pb.LeaseJobsRequest(kind=self._kind, max_jobs=max_jobs, wait=Duration(seconds=WAIT_SECONDS))
        try:
            deadline = WAIT_SECONDS + ANSWER_SECONDS
            response = await call(self._store.LeaseJobs, request, timeout=deadline, wait=True)
        except Problem as problem:
            # A store whose database is down may report no more than INTERNAL.
            if not problem.retryable and not isinstance(problem, Internal):
                raise
            self._failures += 1
            pause = BACKOFF.pause(self._failures)
            # A single failure is normal: the store restarts, or every service is stopping.
            write = log.warning if self._failures > 1 else log.debug
            write("leases not available, retrying", reason=problem.reason, pause=round(pause, 1))
            await asyncio.sleep(pause)
            return ()
        self._failures = 0
        return response.leases

    async def renew(
        self, lease_ids: Collection[str], progress: Mapping[str, float], timeout: float
    ) -> set[str] | None:
        """Renews leases and returns the ids of those that are held; None if the store does not answer within
        `timeout` seconds. `progress` says how much of a job is done, 0 to 1, by lease id."""
        request = pb.RenewLeasesRequest(lease_ids=lease_ids, progress=progress)
        try:
            response = await call(self._store.RenewLeases, request, timeout=timeout)
        except Problem as problem:
            log.warning("leases not renewed", reason=problem.reason, leases=len(lease_ids))
            return None
        return set(response.lease_ids)

    async def release(self, lease_ids: Collection[str]) -> None:
        """Makes the jobs due again at once. A failure is ignored, because leases expire by themselves."""
        request = pb.ReleaseLeasesRequest(lease_ids=lease_ids)
        with contextlib.suppress(Problem):
            await call(self._store.ReleaseLeases, request, timeout=RELEASE_SECONDS)
