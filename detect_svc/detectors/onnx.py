"""RT-DETRv2 on ONNX Runtime in processes of its own: the adapter for `onnx:`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import structlog

from detect_svc.detectors.coco_labels import UNNAMED
from detect_svc.detectors.detector import FrameFindings, Photo, ServerState
from detect_svc.detectors.model_metadata import ModelMetadata
from detect_svc.detectors.photo_sandbox import (
    DEPTH,
    NICE,
    PHOTO_SECONDS,
    process_count,
    require_running_child,
    run_on_photo,
)
from detect_svc.detectors.rtdetr_output import FAST_THRESHOLD, THRESHOLD, read_findings
from detect_svc.detectors.triton_url import number, one_of, options
from mesh.config import Config
from mesh.problems import Unavailable
from mesh.processes.sandbox import Sandbox

log = structlog.get_logger(__name__)

TARGET = "detect_svc.detectors.rtdetr_session:load"
OPTIONS = {"provider": one_of("cpu", "cuda", "tensorrt"), "threads": number(64), "processes": number(64)}
# The weights of the largest, r101, and what its layers hand on. GPU drivers map far more than they use.
CPU_MEMORY_BYTES = 8 * 2**30
START_SECONDS = 120.0
# TensorRT tries many kernels for each layer before it has an engine.
BUILD_SECONDS = 1800.0


class OnnxDetector:
    """A Detector."""

    threshold, fast_threshold = THRESHOLD, FAST_THRESHOLD

    def __init__(self, sandbox: Sandbox, card: ModelMetadata, photos_in_flight: int) -> None:
        self._sandbox, self._card = sandbox, card
        self.name, self.digest = card.name, card.digest
        self.labels = tuple(label for label in card.labels if label != UNNAMED)
        self.input_size = (card.side, card.side)
        self.photos_in_flight = photos_in_flight

    async def detect(self, photo: Photo) -> FrameFindings:
        seen = await run_on_photo(self._sandbox, photo)
        if "broken" in seen:
            raise Unavailable(f"ONNX Runtime failed: {seen['broken'][:300]}", "DETECTOR_BROKEN")
        scores, kinds, boxes = (
            np.frombuffer(data, dtype) for data, dtype in zip(seen["raw"], ("f4", "i4", "f4"), strict=True)
        )
        found = read_findings(scores, kinds, boxes.reshape(-1, 4), self._card.labels)
        return FrameFindings(found, seen["width"], seen["height"])

    async def check(self) -> None:
        require_running_child(self._sandbox)

    def servers(self) -> Sequence[ServerState]:
        return ()


@asynccontextmanager
async def open_onnx(config: Config, model: Path, query: str) -> AsyncIterator[OnnxDetector]:
    """`query`: the URL's. Raises Invalid BAD_SETTING for a file or a provider that is not there, and Invalid
    MODEL_DOES_NOT_FIT. A GPU has one process unless told otherwise: each would hold the weights."""
    said = options(query, OPTIONS)
    provider, threads = said.get("provider", "cpu"), said.get("threads", 1)
    processes = said.get("processes", 0) or (process_count(0) if provider == "cpu" else 1)
    engines = config.cache / "engines"
    if provider == "tensorrt":
        engines.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(
        TARGET,
        setup=[str(model), provider, threads, config.ingest_max_pixels, str(engines)],
        size=processes,
        depth=DEPTH,
        seconds=PHOTO_SECONDS,
        start_seconds=BUILD_SECONDS if provider == "tensorrt" else START_SECONDS,
        memory_bytes=CPU_MEMORY_BYTES if provider == "cpu" else None,
        nice=NICE,
    )
    async with sandbox:
        name, digest, labels, side = (await sandbox.run(""))["card"]
        card = ModelMetadata(name, digest, tuple(labels), side)
        log.info("detector ready", detector=name, provider=provider, processes=len(sandbox.pids))
        yield OnnxDetector(sandbox, card, processes * DEPTH)
