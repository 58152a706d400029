"""Composes detect_svc."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from detect_svc.api import DetectServicer
from detect_svc.detectors.opener import DetectorOpener
from detect_svc.gpus.monitor import GpuMonitor
from detect_svc.gpus.nvml import NvmlReader
from detect_svc.worker import DetectWorker
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.topics import INGESTED

NAME = "detect_svc"
SERVICE = "lares.detect.v1.DetectService"


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves DetectService and detects what ingest.media.v1 brings, until the block ends. Servers of the
    detector's that are away hold up neither the start nor the other services (see DetectorOpener)."""
    async with AsyncExitStack() as stack:
        lookout = await stack.enter_async_context(DetectorOpener(config))
        mesh.checks["detector"] = lookout.check
        if not lookout.is_there:
            mesh.awaited.add("detector")
        stream = await stack.enter_async_context(mesh.bus.consume(INGESTED, NAME))
        gpus = GpuMonitor(NvmlReader().read)
        servicer = DetectServicer(lookout.detector, stream.lag, gpus.gpus)
        mesh.server.add(rpc.add_DetectServiceServicer_to_server, servicer, SERVICE, needs=["detector"])

        async def work() -> None:
            detector = await lookout.until_there()
            await DetectWorker(stream, detector, mesh.blobs, config.detect_batch).run()

        await stack.enter_async_context(mesh.running("GPUs", gpus.run()))
        await stack.enter_async_context(mesh.running(NAME, work()))
        yield
