"""The store's queue of jobs, without a store."""

import asyncio

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceServicer
from mesh.problems import Problem


class FakeJobService(JobServiceServicer):
    """Hands out the leases in `queue`, which are of one kind. While `problem` is set, calls raise it."""

    def __init__(self, kind: pb.JobKind.ValueType) -> None:
        self.kind = kind
        self.queue: asyncio.Queue[pb.JobLease] = asyncio.Queue()
        self.problem: Problem | None = None
        self.asked: list[int] = []
        self.renewed: list[str] = []
        self.progress: list[float] = []
        self.released: list[str] = []
        self.refused = 0
        self.lost: set[str] = set()

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> pb.LeaseJobsResponse:
        assert request.kind == self.kind
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
        self.progress.extend(request.progress.values())
        return pb.RenewLeasesResponse(lease_ids=[id for id in request.lease_ids if id not in self.lost])

    async def ReleaseLeases(
        self, request: pb.ReleaseLeasesRequest, context: object
    ) -> pb.ReleaseLeasesResponse:
        self.released.extend(request.lease_ids)
        return pb.ReleaseLeasesResponse()
