"""A process that takes uploads, until it is killed: `python -m tests.support.upload_server HOME`. It prints
its address, and then the id of each media that it announces."""

import asyncio
import sys
from pathlib import Path

from ingest_svc.api import IngestServicer
from lares.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from tests.support.ingest_harness import IngestHarness


async def serve(home: Path) -> None:
    harness = IngestHarness(home)
    async with harness.running() as ingest:
        server = GrpcServer(CallInterceptor)
        servicer = IngestServicer(ingest.uploads, ingest.worker.caught_up)
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
    asyncio.run(serve(Path(sys.argv[1])))
