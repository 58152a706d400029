"""Composes detect_svc."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from detect_svc.api import DetectServicer
from detect_svc.gpu import GpuMonitor
from detect_svc.lookout import Lookout
from detect_svc.nvml import Driver
from detect_svc.worker import Worker
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.topics import INGESTED

NAME = "detect_svc"
SERVICE = "lares.detect.v1.DetectService"


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves DetectService and detects what ingest.media.v1 brings, until the block ends. Servers of the
    detector's that are away hold up neither the start nor the other services (see Lookout)."""
    async with AsyncExitStack() as stack:
        lookout = await stack.enter_async_context(Lookout(config))
        mesh.checks["detector"] = lookout.check
        if not lookout.is_there:
            mesh.awaited.add("detector")
        stream = await stack.enter_async_context(mesh.bus.consume(INGESTED, NAME))
        gpus = GpuMonitor(Driver().read)
        servicer = DetectServicer(lookout.detector, stream.lag, gpus.gpus)
        mesh.server.add(rpc.add_DetectServiceServicer_to_server, servicer, SERVICE, needs=["detector"])

        async def work() -> None:
            detector = await lookout.until_there()
            await Worker(stream, detector, mesh.blobs, config.detect_batch).run()

        await stack.enter_async_context(mesh.running("GPUs", gpus.run()))
        await stack.enter_async_context(mesh.running(NAME, work()))
        yield
