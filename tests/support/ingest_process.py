"""Runs ingest_svc in a process of its own, for tests that kill it, and the services of a fake store."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ingest_svc import service, waiting_files
from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.store.internal.v1.file_service_pb2 import (
    ListKnownMediaRequest,
    ListKnownMediaResponse,
    ListUnknownFilesRequest,
    ListUnknownFilesResponse,
)
from lares.store.internal.v1.file_service_pb2_grpc import FileServiceServicer
from lares.store.internal.v1.offset_service_pb2 import (
    AdvanceOffsetsRequest,
    AdvanceOffsetsResponse,
    GetOffsetsRequest,
    GetOffsetsResponse,
)
from lares.store.internal.v1.offset_service_pb2_grpc import OffsetServiceServicer
from mesh.blobs import FileBlobs
from mesh.blobs.factory import blob_folder
from mesh.bus import Bus, open_bus
from mesh.config import load_config
from mesh.key_verifier import KeyVerifier
from mesh.mesh import Mesh
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door
from mesh.topics import INGESTED


class FakeFileService(FileServiceServicer):
    """Knows the files given to `record`."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()

    def record(self, file: FileFingerprint) -> None:
        self.known.add(file.SerializeToString(deterministic=True))

    async def ListUnknownFiles(
        self, request: ListUnknownFilesRequest, context: Any
    ) -> ListUnknownFilesResponse:
        states = [file.SerializeToString(deterministic=True) for file in request.files]
        return ListUnknownFilesResponse(
            unknown=[at for at, state in enumerate(states) if state not in self.known]
        )

    async def ListKnownMedia(self, request: ListKnownMediaRequest, context: Any) -> ListKnownMediaResponse:
        return ListKnownMediaResponse()


class FakeOffsetService(OffsetServiceServicer):
    """Also an OffsetStore: it returns what was saved in it."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        return {partition: self._offsets[partition] for partition in self._offsets.keys() & {*partitions}}

    async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
        self._offsets |= positions

    async def GetOffsets(self, request: GetOffsetsRequest, context: Any) -> GetOffsetsResponse:
        assert (request.consumer, request.topic) == ("detect_svc", INGESTED.name)
        offsets = await self.load(request.topic, request.topic_id, request.partitions)
        return GetOffsetsResponse(next_offsets=offsets)

    async def AdvanceOffsets(self, request: AdvanceOffsetsRequest, context: Any) -> AdvanceOffsetsResponse:
        await self.save(request.topic, request.topic_id, request.next_offsets)
        return AdvanceOffsetsResponse()


@asynccontextmanager
async def running_ingest(
    bus: Bus, home: Path, store: str, server: GrpcServer, **settings: object
) -> AsyncIterator[Mesh]:
    """Opens the service as the composition root does. `store` is the address of a store. The caller
    starts and stops `server`."""
    async with AsyncExitStack() as stack:
        channels = Channels({}, {"store": store})
        stack.push_async_callback(channels.close)
        config = load_config(home=home, **settings)
        blobs = FileBlobs(blob_folder(config))
        stack.callback(blobs.close)
        mesh = Mesh(
            config,
            bus,
            blobs,
            server,
            channels,
            KeyVerifier(channels.to("store")),
        )
        await stack.enter_async_context(service.open(mesh.config, mesh))
        yield mesh


async def main(url: str, home: str, store: str, address: str = "") -> None:
    """Listens at the address if there is one. SIGTERM ends it as `lares up` ends. A live photo waits for its
    camera's backlog for as long as a slow machine takes for it."""
    waiting_files.ORDER_SECONDS = 60.0
    server, ended = GrpcServer(CallInterceptor), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with (
        open_bus(url, client_id="ingest-process") as bus,
        running_ingest(bus, Path(home), store, server) as mesh,
    ):
        if address:
            await server.listen(address, door=Door.SIBLINGS)
            await server.start()
        mesh.failure.add_done_callback(lambda _: ended.set())
        await ended.wait()
        if mesh.failure.done():
            mesh.failure.result()
        await mesh.prepare_stop()
        await server.stop(1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
