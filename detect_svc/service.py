"""Composes detect_svc."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from detect_svc.api import DetectServicer
from detect_svc.detector import open_detector
from detect_svc.filter import Filter
from detect_svc.worker import Worker
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from mesh.cameras import open_cameras
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.topics import INGESTED

NAME = "detect_svc"
SERVICE = "lares.detect.v1.DetectService"


@asynccontextmanager
async def open(config: Config, mesh: Mesh) -> AsyncIterator[None]:
    """Serves DetectService and detects what ingest.media.v1 brings, until the block ends."""
    async with AsyncExitStack() as stack:
        detector = await stack.enter_async_context(open_detector(config))
        rule = Filter.of(config, detector)
        mesh.checks["detector"] = detector.check
        cameras = await stack.enter_async_context(open_cameras(mesh.bus))
        stream = await stack.enter_async_context(mesh.bus.consume(INGESTED, NAME))
        servicer = DetectServicer(detector, rule, cameras.get, stream.lag)
        mesh.server.add(rpc.add_DetectServiceServicer_to_server, servicer, SERVICE)
        worker = Worker(stream, detector, rule, cameras.get, mesh.blobs, config.detect_batch)
        await stack.enter_async_context(mesh.running(NAME, worker.run()))
        yield
