"""The offsets of a service without a database, which the store keeps."""

from collections.abc import Collection, Mapping

import grpc

from lares.store.internal.v1 import offset_service_pb2 as pb
from lares.store.internal.v1.offset_service_pb2_grpc import OffsetServiceStub
from mesh.problems import Problem, Unavailable
from mesh.rpc import call
from mesh.security import as_itself

LOAD_SECONDS = 5.0
SAVE_SECONDS = 5.0


class OffsetClient:
    """An OffsetStore (see mesh.delivery). Its methods raise Unavailable whatever the store's problem is:
    reading waits until the store says where to go on."""

    def __init__(self, store: grpc.aio.Channel, consumer: str) -> None:
        self._store = OffsetServiceStub(store)
        self._consumer = consumer

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        request = pb.GetOffsetsRequest(
            consumer=self._consumer, topic=topic, topic_id=topic_id, partitions=partitions
        )
        with as_itself():
            try:
                response = await call(self._store.GetOffsets, request, timeout=LOAD_SECONDS, wait=True)
            except Problem as problem:
                raise _unavailable(problem) from None
        return dict(response.next_offsets)

    async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
        request = pb.AdvanceOffsetsRequest(
            consumer=self._consumer, topic=topic, topic_id=topic_id, next_offsets=positions
        )
        with as_itself():
            try:
                await call(self._store.AdvanceOffsets, request, timeout=SAVE_SECONDS)
            except Problem as problem:
                raise _unavailable(problem) from None


def _unavailable(problem: Problem) -> Unavailable:
    return Unavailable(f"the store does not keep the offsets: {problem.message}", "OFFSETS_UNAVAILABLE")
