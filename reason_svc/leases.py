"""The store's queue of events to assess, as the judge sees it."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceStub
from mesh.problems import Internal, Problem
from mesh.rpc import call
from reason_svc.backoff import Backoff

log = structlog.get_logger(__name__)

WAIT_SECONDS = 25  # of the 30 that the store allows
ANSWER_SECONDS = 10.0
PARTING_SECONDS = 1.0
PAUSES = (0.1, 5.0)


class Leases:
    """Takes, keeps and gives back; a store that cannot be reached is waited for."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._store = JobServiceStub(store)
        self._backoff = Backoff(*PAUSES)

    async def take(self, most: int) -> Sequence[pb.JobLease]:
        """Up to `most` due events as soon as there is one, or none after a while. Raises what no waiting can
        mend."""
        request = pb.LeaseJobsRequest(
            kind=pb.JOB_KIND_ASSESS, max_jobs=most, wait=Duration(seconds=WAIT_SECONDS)
        )
        try:
            deadline = WAIT_SECONDS + ANSWER_SECONDS
            answer = await call(self._store.LeaseJobs, request, timeout=deadline, wait=True)
        except Problem as problem:
            # A store whose own parts are down may say no more than INTERNAL.
            if not problem.retryable and not isinstance(problem, Internal):
                raise
            pause = self._backoff.failed()
            # Once is nothing to tell: the store was restarted, or all of us are stopping.
            tell = log.warning if self._backoff.failures > 1 else log.debug
            tell("the store gives no leases", reason=problem.reason, pause=round(pause, 1))
            await asyncio.sleep(pause)
            return ()
        self._backoff.worked()
        return answer.leases

    async def lost(self, lease_ids: Collection[str]) -> set[str]:
        """Renews them; returns those that are no longer ours, as far as the store answers."""
        request = pb.RenewLeasesRequest(lease_ids=lease_ids)
        try:
            answer = await call(self._store.RenewLeases, request, timeout=ANSWER_SECONDS)
        except Problem as problem:
            log.warning("leases not renewed", reason=problem.reason, leases=len(lease_ids))
            return set()
        return set(lease_ids) - set(answer.lease_ids)

    async def release(self, lease_ids: Collection[str]) -> None:
        """A courtesy: without it they expire by themselves."""
        request = pb.ReleaseLeasesRequest(lease_ids=lease_ids)
        with contextlib.suppress(Problem):
            await call(self._store.ReleaseLeases, request, timeout=PARTING_SECONDS)
