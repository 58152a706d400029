"""EfficientDet-Lite0 on LiteRT, in child processes: the adapter for `litert:`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
from google.protobuf.message import DecodeError

from detect_svc.detectors.detector import Photo, ServerState
from detect_svc.detectors.detector_url import parse_options
from detect_svc.detectors.model_labels import named_labels, read_model_labels
from detect_svc.detectors.photo_sandbox import (
    DEPTH,
    NICE,
    PHOTO_SECONDS,
    process_count,
    require_running_child,
    run_on_photo,
)
from lares.detect.v1.detection_pb2 import Frame
from mesh.artifacts import efficientdet_lite0, fetching, sha256_of
from mesh.config import Config
from mesh.problems import Internal
from mesh.processes.sandbox import Sandbox
from mesh.url_options import number

log = structlog.get_logger(__name__)

TARGET = "detect_svc.detectors.efficientdet:load"
OPTIONS = {"processes": number(1, 64), "threads": number(1, 64)}


class LiteRtDetector:
    """A Detector. docs/detector.md describes how its thresholds were measured."""

    name = "efficientdet-lite0"
    input_size = (320, 320)
    threshold = 0.50
    fast_threshold = 0.60

    def __init__(self, sandbox: Sandbox, digest: str, labels: tuple[str, ...]) -> None:
        self._sandbox, self.digest, self.labels = sandbox, digest, labels
        self.photos_in_flight = len(sandbox.pids) * DEPTH

    async def detect(self, photo: Photo) -> Frame:
        try:
            return Frame.FromString(await run_on_photo(self._sandbox, photo))
        except (DecodeError, TypeError):
            raise Internal("the detector's process returned no frame", "DETECTOR_NONSENSE") from None

    async def check(self) -> None:
        require_running_child(self._sandbox)

    def servers(self) -> Sequence[ServerState]:
        return ()


@asynccontextmanager
async def open_litert(config: Config, query: str) -> AsyncIterator[LiteRtDetector]:
    """Fetches the weights if they are not in the cache. `query` is the URL's. Raises Invalid BAD_SETTING."""
    options = parse_options(query, OPTIONS)
    processes = process_count(options.get("processes", 0))
    model = await fetching(partial(efficientdet_lite0, config.cache))
    digest = await asyncio.to_thread(sha256_of, model)
    sandbox = Sandbox(
        TARGET,
        # Two processes of one thread each are faster than one process of two: decoding runs in parallel, too.
        setup=[str(model), options.get("threads", 1), config.ingest_max_pixels],
        size=processes,
        depth=DEPTH,
        seconds=PHOTO_SECONDS,
        nice=NICE,
    )
    async with sandbox:
        labels = named_labels(read_model_labels(model))
        log.info("detector ready", detector=LiteRtDetector.name, processes=len(sandbox.pids))
        yield LiteRtDetector(sandbox, digest, labels)
