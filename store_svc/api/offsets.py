"""lares.store.internal.v1.OffsetService."""

from lares.store.internal.v1 import offset_service_pb2 as pb
from lares.store.internal.v1.offset_service_pb2_grpc import OffsetServiceServicer
from store_svc.consumer_offsets import ConsumerOffsets


class OffsetServicer(OffsetServiceServicer):
    def __init__(self, offsets: ConsumerOffsets) -> None:
        self._offsets = offsets

    async def GetOffsets(self, request: pb.GetOffsetsRequest, context: object) -> pb.GetOffsetsResponse:
        found = await self._offsets.load(
            request.consumer, request.topic, request.topic_id, request.partitions
        )
        return pb.GetOffsetsResponse(next_offsets=found)

    async def AdvanceOffsets(
        self, request: pb.AdvanceOffsetsRequest, context: object
    ) -> pb.AdvanceOffsetsResponse:
        await self._offsets.advance(request.consumer, request.topic, request.topic_id, request.next_offsets)
        return pb.AdvanceOffsetsResponse()
