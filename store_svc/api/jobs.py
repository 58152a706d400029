"""lares.store.internal.v1.JobService."""

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceServicer
from store_svc.job_leases import JobLeases
from store_svc.times import stamp

MAX_WAIT_SECONDS = 30.0


class JobServicer(JobServiceServicer):
    def __init__(self, leases: JobLeases) -> None:
        self._leases = leases

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> pb.LeaseJobsResponse:
        wait = request.wait.seconds + request.wait.nanos / 1e9
        timeout = min(max(wait, 0.0), MAX_WAIT_SECONDS)
        return pb.LeaseJobsResponse(leases=await self._leases.lease(request.kind, request.max_jobs, timeout))

    async def RenewLeases(self, request: pb.RenewLeasesRequest, context: object) -> pb.RenewLeasesResponse:
        held, until = await self._leases.renew(request.lease_ids)
        return pb.RenewLeasesResponse(lease_ids=held, expires_at=stamp(until))

    async def ReleaseLeases(
        self, request: pb.ReleaseLeasesRequest, context: object
    ) -> pb.ReleaseLeasesResponse:
        await self._leases.release(request.lease_ids)
        return pb.ReleaseLeasesResponse()
