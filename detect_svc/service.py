"""Composes detect_svc."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from detect_svc.api import DetectServicer, ProgressServicer
from detect_svc.detectors.opener import DetectorOpener
from detect_svc.frames.clip_frames import ClipDecoders
from detect_svc.gpus.monitor import GpuMonitor
from detect_svc.gpus.nvml import NvmlReader
from detect_svc.rendering.worker import RenderWorker
from detect_svc.worker import DetectWorker
from lares.detect.internal.v1.progress_service_pb2_grpc import add_ProgressServiceServicer_to_server
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from lares.detect.v1.events_pb2 import MediaRendered
from lares.store.internal.v1.job_service_pb2 import JOB_KIND_RENDER
from mesh.bus import STATUS_SECONDS
from mesh.config import Config
from mesh.job_client import JobClient
from mesh.mesh import Mesh
from mesh.offset_client import OffsetClient
from mesh.retry import Backoff
from mesh.topics import INGESTED, RENDERED

NAME = "detect_svc"
SERVICE = "lares.detect.v1.DetectService"
PROGRESS_SERVICE = "lares.detect.internal.v1.ProgressService"
RENDER_BACKOFF = Backoff(1.0, 30.0)


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves DetectService, detects the media on ingest.media.v1 and makes renditions until the block ends.
    While the detector's servers are not ready, the service runs without a detector (see DetectorOpener)."""
    async with AsyncExitStack() as stack:
        opener = await stack.enter_async_context(DetectorOpener(config))
        mesh.checks["detector"] = opener.check
        if not opener.is_open:
            mesh.awaited.add("detector")
        offsets = OffsetClient(mesh.channel("store"), NAME)
        stream = await stack.enter_async_context(mesh.bus.consume(INGESTED, NAME, offsets=offsets))
        gpus = GpuMonitor(NvmlReader().read)
        servicer = DetectServicer(opener.detector, partial(stream.lag, STATUS_SECONDS), gpus.gpus)
        mesh.server.add(rpc.add_DetectServiceServicer_to_server, servicer, SERVICE, needs=["detector"])
        progress = ProgressServicer(stream.processed, stream.positions)
        mesh.server.add(add_ProgressServiceServicer_to_server, progress, PROGRESS_SERVICE)

        async def work() -> None:
            detector = await opener.wait()
            async with ClipDecoders(config, detector.input_size) as decoders:
                await DetectWorker(stream, detector, mesh.blobs, config.detect_batch, decoders).run()

        async def publish(fact: MediaRendered) -> None:
            await mesh.bus.publish(RENDERED, fact)

        renderer = RenderWorker(
            JobClient(mesh.channel("store"), JOB_KIND_RENDER, mesh.metrics),
            mesh.blobs,
            publish,
            lambda: datetime.now(UTC),
            lease_seconds=config.lease_seconds,
            max_pixels=config.ingest_max_pixels,
            max_seconds=config.clip_max_seconds,
            backoff=RENDER_BACKOFF,
        )
        await stack.enter_async_context(mesh.running("GPUs", gpus.run()))
        await stack.enter_async_context(mesh.running(NAME, work()))
        await stack.enter_async_context(mesh.running("renditions", renderer.run()))
        yield
