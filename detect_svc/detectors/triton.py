"""RT-DETRv2 on Triton servers: the adapter for `triton://`.

Photos are decoded here, in processes of their own, and cross the wire as squares of uint8 (1.2 MB at
640 x 640), one image a request, for the server's dynamic batcher to put together.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from detect_svc.detectors.coco_labels import UNNAMED
from detect_svc.detectors.detector import DetectorNotReady, FrameFindings, Photo, ServerState
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
from detect_svc.detectors.triton_url import TritonUrl, bad_setting
from mesh.config import Config
from mesh.problems import Invalid, Unavailable
from mesh.processes.sandbox import Sandbox
from mesh.telemetry.spans import CLIENT, span

log = structlog.get_logger(__name__)

TARGET = "detect_svc.detectors.rtdetr_input:load"
# What callers of DetectObjects may add to the pipeline's photos.
WAITING = 64


class TritonDetector:
    """A Detector. One photo asks each server once at most; then its caller waits and tries again."""

    threshold, fast_threshold = THRESHOLD, FAST_THRESHOLD

    def __init__(
        self,
        sandbox: Sandbox,
        pool: ServerPool[bytes, InferenceOutput],
        card: ModelMetadata,
        photos_in_flight: int,
    ) -> None:
        self._sandbox, self._pool, self._card = sandbox, pool, card
        self.name, self.digest = card.name, card.digest
        self.labels = tuple(label for label in card.labels if label != UNNAMED)
        self.input_size = (card.side, card.side)
        self.photos_in_flight = photos_in_flight

    async def detect(self, photo: Photo) -> FrameFindings:
        self._pool.require()  # before the photo is decoded for nobody
        with span("decode photo"):
            seen = await run_on_photo(self._sandbox, photo)
        with span("ask detector server", kind=CLIENT):
            raw = await self._pool.ask(seen["pixels"])
        return FrameFindings(read_findings(*raw, self._card.labels), seen["width"], seen["height"])

    async def check(self) -> None:
        require_running_child(self._sandbox)
        self._pool.require()

    def servers(self) -> Sequence[ServerState]:
        return [place.state for place in self._pool.places]


@asynccontextmanager
async def open_triton(config: Config, endpoint: TritonUrl) -> AsyncIterator[TritonDetector]:
    """Reads the model from all servers that answer; one is enough, the others may come later.

    Raises Invalid MODEL_DOES_NOT_FIT for a model that is no fused RT-DETRv2, or not the same everywhere, and
    Invalid BAD_SETTING where the token is refused: waiting mends neither. Raises DetectorNotReady while no
    server has the model ready.
    """
    if endpoint.tls and config.detector_ca and not config.detector_ca.is_file():
        raise Invalid(f"LARES_DETECTOR_CA: there is no file {config.detector_ca}", "BAD_SETTING")
    async with AsyncExitStack() as stack:
        servers = []
        for address in endpoint.addresses:
            server = TritonClient(address, endpoint, config.detect_seconds, config.detector_ca)
            stack.push_async_callback(server.close)
            servers.append(server)
        card, in_flight = await _agreed(servers)
        for server in servers:
            server.card = card
        pool = ServerPool(servers, config.detect_seconds)
        processes = process_count(endpoint.processes)
        photos_in_flight = in_flight * len(servers) + processes * DEPTH
        sandbox = Sandbox(
            TARGET,
            setup=[card.side, config.ingest_max_pixels],
            size=processes,
            depth=DEPTH,
            waiting=photos_in_flight + WAITING,
            seconds=PHOTO_SECONDS,
            nice=NICE,
        )
        await stack.enter_async_context(sandbox)
        await stack.enter_async_context(pool.kept())
        log.info("detector ready", detector=card.name, servers=len(servers), in_flight=in_flight)
        yield TritonDetector(sandbox, pool, card, photos_in_flight)


async def _agreed(servers: Sequence[TritonClient]) -> tuple[ModelMetadata, int]:
    """The model that all who answer have, and how many requests at a time keep one server busy."""
    answers = await asyncio.gather(*(server.read() for server in servers), return_exceptions=True)
    cards: dict[str, tuple[ModelMetadata, int]] = {}
    for server, answer in zip(servers, answers, strict=True):
        if isinstance(answer, UnsupportedModel):
            raise Invalid(f"{server.address}: the model does not fit: {answer}", "MODEL_DOES_NOT_FIT")
        if isinstance(answer, Unavailable) and answer.reason == "DETECTOR_DENIED":
            raise bad_setting(answer.message)
        if isinstance(answer, tuple):
            cards[server.address] = answer
        elif not isinstance(answer, Unavailable):
            raise answer
    if not cards:
        raise DetectorNotReady("; ".join(str(answer) for answer in answers), "DETECTOR_AWAY")
    if len({card for card, _ in cards.values()}) > 1:
        held = ", ".join(f"{address}: {card.name}@{card.digest[:12]}" for address, (card, _) in cards.items())
        raise Invalid(f"the servers hold different models: {held}", "MODEL_DOES_NOT_FIT")
    return next(iter(cards.values()))
