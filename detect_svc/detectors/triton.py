"""RT-DETRv2 on Triton servers: the adapter for `triton://`.

Photos are decoded in child processes here and sent as squares of uint8 (1.2 MB at 640 x 640), one image a
request. The server's dynamic batcher combines them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from detect_svc.detectors.detector import DetectorNotReady, Photo, ServerState
from detect_svc.detectors.detector_url import TritonUrl, bad_setting
from detect_svc.detectors.frame_message import frame_message
from detect_svc.detectors.model_labels import named_labels
from detect_svc.detectors.model_metadata import ModelMetadata, UnsupportedModel
from detect_svc.detectors.photo_sandbox import (
    DEPTH,
    NICE,
    PHOTO_SECONDS,
    process_count,
    require_running_child,
    run_on_photo,
)
from detect_svc.detectors.rtdetr_output import FAST_THRESHOLD, THRESHOLD, read_findings
from detect_svc.detectors.server_pool import ServerPool
from detect_svc.detectors.triton_client import InferenceOutput, TritonClient
from lares.detect.v1.detection_pb2 import Frame
from mesh.config import Config
from mesh.problems import Invalid, Unavailable
from mesh.processes.sandbox import Sandbox
from mesh.secret import ParsedSecret
from mesh.telemetry.spans import CLIENT, span

log = structlog.get_logger(__name__)

TARGET = "detect_svc.detectors.rtdetr_input:load"
# Room for callers of DetectObjects, beside the pipeline's photos.
MAX_WAITING = 64


class TritonDetector:
    """A Detector. Each photo is sent to each server at most once; then the caller retries."""

    threshold, fast_threshold = THRESHOLD, FAST_THRESHOLD

    def __init__(
        self,
        sandbox: Sandbox,
        pool: ServerPool[bytes, InferenceOutput],
        metadata: ModelMetadata,
        photos_in_flight: int,
    ) -> None:
        self._sandbox, self._pool, self._metadata = sandbox, pool, metadata
        self.name, self.digest = metadata.name, metadata.digest
        self.labels = named_labels(metadata.labels)
        self.input_size = (metadata.side, metadata.side)
        self.photos_in_flight = photos_in_flight

    async def detect(self, photo: Photo) -> Frame:
        self._pool.require_available()  # before the photo is decoded for nothing
        with span("decode photo"):
            decoded = await run_on_photo(self._sandbox, photo)
        with span("ask detector server", kind=CLIENT):
            output = await self._pool.infer(decoded["pixels"])
        findings = read_findings(*output, self._metadata.labels)
        return frame_message(decoded["width"], decoded["height"], findings)

    async def check(self) -> None:
        require_running_child(self._sandbox)
        self._pool.require_available()

    def servers(self) -> Sequence[ServerState]:
        return [server.state for server in self._pool.servers]


@asynccontextmanager
async def open_triton(config: Config, login: ParsedSecret[TritonUrl]) -> AsyncIterator[TritonDetector]:
    """Reads the model's metadata from all servers. One server that is ready is enough.

    Raises Invalid MODEL_DOES_NOT_FIT if the model is not a fused RT-DETRv2, or if the servers hold different
    models, and Invalid BAD_SETTING if the token is refused. Raises DetectorNotReady while no server has the
    model ready.
    """
    url = login.value
    if url.tls and config.detector_ca and not config.detector_ca.is_file():
        raise Invalid(f"LARES_DETECTOR_CA: there is no file {config.detector_ca}", "BAD_SETTING")
    async with AsyncExitStack() as stack:
        clients = []
        for address in url.addresses:
            client = TritonClient(address, login, config.detect_seconds, config.detector_ca)
            stack.push_async_callback(client.close)
            clients.append(client)
        metadata, in_flight = await _read_model(clients)
        for client in clients:
            client.expected = metadata
        pool = ServerPool(clients, config.detect_seconds)
        processes = process_count(url.processes)
        photos_in_flight = in_flight * len(clients) + processes * DEPTH
        sandbox = Sandbox(
            TARGET,
            setup=[metadata.side, config.ingest_max_pixels],
            size=processes,
            depth=DEPTH,
            waiting=photos_in_flight + MAX_WAITING,
            seconds=PHOTO_SECONDS,
            nice=NICE,
        )
        await stack.enter_async_context(sandbox)
        await stack.enter_async_context(pool.running())
        log.info("detector ready", detector=metadata.name, servers=len(clients), in_flight=in_flight)
        yield TritonDetector(sandbox, pool, metadata, photos_in_flight)


async def _read_model(clients: Sequence[TritonClient]) -> tuple[ModelMetadata, int]:
    """The model that all ready servers hold, and how many concurrent requests keep one server busy."""
    results = await asyncio.gather(*(client.read_model() for client in clients), return_exceptions=True)
    models: dict[str, tuple[ModelMetadata, int]] = {}
    for client, result in zip(clients, results, strict=True):
        if isinstance(result, UnsupportedModel):
            raise Invalid(f"{client.address}: the model does not fit: {result}", "MODEL_DOES_NOT_FIT")
        if isinstance(result, Unavailable) and result.reason == "DETECTOR_DENIED":
            raise bad_setting(result.message)
        if isinstance(result, tuple):
            models[client.address] = result
        elif not isinstance(result, Unavailable):
            raise result
    if not models:
        raise DetectorNotReady("; ".join(str(result) for result in results), "DETECTOR_AWAY")
    if len({metadata for metadata, _ in models.values()}) > 1:
        held = ", ".join(
            f"{address}: {metadata.name}@{metadata.digest[:12]}" for address, (metadata, _) in models.items()
        )
        raise Invalid(f"the servers hold different models: {held}", "MODEL_DOES_NOT_FIT")
    return next(iter(models.values()))
