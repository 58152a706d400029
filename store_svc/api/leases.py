"""lares.store.internal.v1.LeaseService."""

from lares.store.internal.v1 import lease_service_pb2 as pb
from lares.store.internal.v1.lease_service_pb2_grpc import LeaseServiceServicer
from store_svc.leases import LeaseTable
from store_svc.times import stamp


class LeaseServicer(LeaseServiceServicer):
    def __init__(self, leases: LeaseTable) -> None:
        self._leases = leases

    async def TakeLease(self, request: pb.TakeLeaseRequest, context: object) -> pb.TakeLeaseResponse:
        length = request.length.ToTimedelta()
        token, holder = await self._leases.take(request.name, request.holder, length)
        return pb.TakeLeaseResponse(token=token, holder=holder)

    async def ExtendLeases(self, request: pb.ExtendLeasesRequest, context: object) -> pb.ExtendLeasesResponse:
        return pb.ExtendLeasesResponse(tokens=await self._leases.extend(request.tokens))

    async def EndLeases(self, request: pb.EndLeasesRequest, context: object) -> pb.EndLeasesResponse:
        await self._leases.end(request.tokens)
        return pb.EndLeasesResponse()

    async def GetLease(self, request: pb.GetLeaseRequest, context: object) -> pb.GetLeaseResponse:
        found = await self._leases.find(request.name)
        if found is None:
            return pb.GetLeaseResponse()
        return pb.GetLeaseResponse(
            holder=found["holder"], held=found["held"], expires_at=stamp(found["expires_at"])
        )
