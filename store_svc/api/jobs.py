"""lares.store.internal.v1.JobService."""

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceServicer
from store_svc.api.waits import wait_seconds
from store_svc.job_leases import JobLeases
from store_svc.times import stamp


class JobServicer(JobServiceServicer):
    def __init__(self, leases: JobLeases) -> None:
        self._leases = leases

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> pb.LeaseJobsResponse:
        timeout = wait_seconds(request.wait)
        return pb.LeaseJobsResponse(leases=await self._leases.lease(request.kind, request.max_jobs, timeout))

    async def RenewLeases(self, request: pb.RenewLeasesRequest, context: object) -> pb.RenewLeasesResponse:
        held, until = await self._leases.renew(request.lease_ids, request.progress)
        return pb.RenewLeasesResponse(lease_ids=held, expires_at=stamp(until))

    async def ReleaseLeases(
        self, request: pb.ReleaseLeasesRequest, context: object
    ) -> pb.ReleaseLeasesResponse:
        await self._leases.release(request.lease_ids)
        return pb.ReleaseLeasesResponse()
