"""A process that takes uploads, until it is killed: `python -m tests.support.upload_server HOME STORE PART`,
with the address of a store and the size of parts. The blobs are those of LARES_BLOBS_URL. It prints its
address, and then the id of each media that it announces."""

import asyncio
import sys
from pathlib import Path

from ingest_svc.api import IngestServicer
from ingest_svc.receiving import upload_progress, upload_records
from lares.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from mesh.blobs import open_blobs
from mesh.config import load_config
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from tests.support.ingest_harness import IngestHarness


async def serve(home: Path, store: str, part: int) -> None:
    setattr(upload_progress, "PART_BYTES", part)  # noqa: B010  # it is imported there
    upload_records.LEASE_SECONDS = 1.0
    harness = IngestHarness(home, Channels({}, {"store": store}).to("store"))
    harness.blobs.close()
    harness.blobs = await open_blobs(load_config(home=home))
    async with harness.running() as ingest:
        server = GrpcServer(CallInterceptor)
        servicer = IngestServicer(ingest.uploads, ingest.duty)
        server.add(add_IngestServiceServicer_to_server, servicer, "lares.ingest.v1.IngestService")
        print(await server.listen("127.0.0.1:0"), flush=True)
        await server.start()
        told = 0
        while True:
            await asyncio.sleep(0.01)
            for media in harness.bus.media[told:]:
                print(media.id, flush=True)
            told = len(harness.bus.media)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
