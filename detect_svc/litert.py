"""EfficientDet-Lite0 in processes of its own: the adapter for `litert:`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from detect_svc.detector import Found, Photo, Sight
from detect_svc.labels import UNNAMED, labels_in
from mesh.artifacts import efficientdet_lite0, sha256_of
from mesh.problems import Invalid, NotFound, Unavailable
from mesh.sandbox import Sandbox

log = structlog.get_logger(__name__)

TARGET = "detect_svc.efficientdet:load"
FETCH_SECONDS = 600.0
PHOTO_SECONDS = 20.0
# Two calls in each process's pipe, so that it starts the next photo while this event loop is busy.
DEPTH = 2
# People who look are answered while a backlog is worked off.
NICE = 5


class EfficientDetLite0:
    """A Detector. Thresholds: see docs/detector.md."""

    name = "efficientdet-lite0"
    input_size = (320, 320)
    threshold = 0.50
    fast_threshold = 0.60

    def __init__(self, sandbox: Sandbox, digest: str, labels: tuple[str, ...]) -> None:
        self._sandbox, self.digest, self.labels = sandbox, digest, labels

    async def detect(self, photo: Photo) -> Sight:
        try:
            seen = await self._sandbox.run(photo if isinstance(photo, bytes) else str(photo))
        except Invalid as problem:
            if problem.reason == "BLOB_NOT_FOUND":
                raise NotFound(problem.message, problem.reason) from None
            raise
        found = [Found(rank, label, score, (*box,)) for rank, (label, score, box) in enumerate(seen["found"])]
        return Sight(found, seen["width"], seen["height"])

    async def check(self) -> None:
        if not self._sandbox.pids:
            raise Unavailable("no detector process runs", "DETECTOR_DOWN")


@asynccontextmanager
async def open_efficientdet_lite0(
    cache: Path, max_pixels: int, processes: int = 0, threads: int = 1
) -> AsyncIterator[EfficientDetLite0]:
    """Fetches the weights once. Two processes of one thread each find more photos a second than one of two,
    and hide no decoding behind detection. `processes` 0: two, or one on a machine of one core."""
    model = await asyncio.wait_for(asyncio.to_thread(efficientdet_lite0, cache), FETCH_SECONDS)
    digest = await asyncio.to_thread(sha256_of, model)
    sandbox = Sandbox(
        TARGET,
        setup=[str(model), threads, max_pixels],
        size=processes or min(2, os.cpu_count() or 1),
        depth=DEPTH,
        seconds=PHOTO_SECONDS,
        nice=NICE,
    )
    async with sandbox:
        labels = tuple(label for label in labels_in(model) if label != UNNAMED)
        log.info("detector ready", detector=EfficientDetLite0.name, processes=len(sandbox.pids))
        yield EfficientDetLite0(sandbox, digest, labels)
