"""EfficientDet-Lite0 in processes of its own: the adapter for `litert:`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from detect_svc.children import DEPTH, NICE, PHOTO_SECONDS, require_one, shown, usual_processes
from detect_svc.detector import Found, Photo, ServerState, Sight
from detect_svc.endpoint import number, options
from detect_svc.labels import UNNAMED, labels_in
from mesh.artifacts import efficientdet_lite0, fetching, sha256_of
from mesh.config import Config
from mesh.sandbox import Sandbox

log = structlog.get_logger(__name__)

TARGET = "detect_svc.efficientdet:load"
OPTIONS = {"processes": number(64), "threads": number(64)}


class EfficientDetLite0:
    """A Detector. Thresholds: see docs/detector.md."""

    name = "efficientdet-lite0"
    input_size = (320, 320)
    threshold = 0.50
    fast_threshold = 0.60

    def __init__(self, sandbox: Sandbox, digest: str, labels: tuple[str, ...]) -> None:
        self._sandbox, self.digest, self.labels = sandbox, digest, labels
        self.photos_in_flight = len(sandbox.pids) * DEPTH

    async def detect(self, photo: Photo) -> Sight:
        seen = await shown(self._sandbox, photo)
        found = [Found(rank, label, score, (*box,)) for rank, (label, score, box) in enumerate(seen["found"])]
        return Sight(found, seen["width"], seen["height"])

    async def check(self) -> None:
        require_one(self._sandbox)

    def servers(self) -> Sequence[ServerState]:
        return ()


@asynccontextmanager
async def open_litert(config: Config, query: str) -> AsyncIterator[EfficientDetLite0]:
    """`query`: the URL's. Fetches the weights once. Two processes of one thread each find more photos a
    second than one of two, and hide no decoding behind detection. Raises Invalid BAD_SETTING."""
    said = options(query, OPTIONS)
    processes = usual_processes(said.get("processes", 0))
    model = await fetching(partial(efficientdet_lite0, config.cache))
    digest = await asyncio.to_thread(sha256_of, model)
    sandbox = Sandbox(
        TARGET,
        setup=[str(model), said.get("threads", 1), config.ingest_max_pixels],
        size=processes,
        depth=DEPTH,
        seconds=PHOTO_SECONDS,
        nice=NICE,
    )
    async with sandbox:
        labels = tuple(label for label in labels_in(model) if label != UNNAMED)
        log.info("detector ready", detector=EfficientDetLite0.name, processes=len(sandbox.pids))
        yield EfficientDetLite0(sandbox, digest, labels)
