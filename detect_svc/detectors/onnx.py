"""RT-DETRv2 on ONNX Runtime, in child processes: the adapter for `onnx:`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import structlog

from detect_svc.detectors.detector import Photo, ServerState
from detect_svc.detectors.detector_url import parse_options
from detect_svc.detectors.frame_message import frame_message
from detect_svc.detectors.model_labels import named_labels
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
from lares.detect.v1.detection_pb2 import Frame
from mesh.config import Config
from mesh.problems import Unavailable
from mesh.processes.sandbox import Sandbox
from mesh.url_options import number, one_of

log = structlog.get_logger(__name__)

TARGET = "detect_svc.detectors.rtdetr_session:load"
OPTIONS = {
    "provider": one_of("cpu", "cuda", "tensorrt"),
    "threads": number(1, 64),
    "processes": number(1, 64),
}
# Enough for the weights of the largest model, r101, and the outputs of its layers. There is no limit with a
# GPU, because its drivers map far more memory than they use.
CPU_MEMORY_BYTES = 8 * 2**30
START_SECONDS = 120.0
# TensorRT tries many kernels for each layer while it builds an engine.
BUILD_SECONDS = 1800.0


class OnnxDetector:
    """A Detector."""

    threshold, fast_threshold = THRESHOLD, FAST_THRESHOLD

    def __init__(self, sandbox: Sandbox, metadata: ModelMetadata, photos_in_flight: int) -> None:
        self._sandbox, self._metadata = sandbox, metadata
        self.name, self.digest = metadata.name, metadata.digest
        self.labels = named_labels(metadata.labels)
        self.input_size = (metadata.side, metadata.side)
        self.photos_in_flight = photos_in_flight

    async def detect(self, photo: Photo) -> Frame:
        result = await run_on_photo(self._sandbox, photo)
        if "error" in result:
            raise Unavailable(f"ONNX Runtime failed: {result['error'][:300]}", "DETECTOR_BROKEN")
        scores, classes, boxes = (
            np.frombuffer(data, dtype)
            for data, dtype in zip(result["outputs"], ("f4", "i4", "f4"), strict=True)
        )
        findings = read_findings(scores, classes, boxes.reshape(-1, 4), self._metadata.labels)
        return frame_message(result["width"], result["height"], findings)

    async def check(self) -> None:
        require_running_child(self._sandbox)

    def servers(self) -> Sequence[ServerState]:
        return ()


@asynccontextmanager
async def open_onnx(config: Config, model: Path, query: str) -> AsyncIterator[OnnxDetector]:
    """`query` is the URL's. Raises Invalid BAD_SETTING if the file or the provider is missing, and Invalid
    MODEL_DOES_NOT_FIT."""
    options = parse_options(query, OPTIONS)
    provider, threads = options.get("provider", "cpu"), options.get("threads", 1)
    # On a GPU one process by default, because each holds the weights.
    processes = options.get("processes", 0) or (process_count(0) if provider == "cpu" else 1)
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
        name, digest, labels, side = (await sandbox.run(""))["metadata"]
        metadata = ModelMetadata(name, digest, tuple(labels), side)
        log.info("detector ready", detector=name, provider=provider, processes=len(sandbox.pids))
        yield OnnxDetector(sandbox, metadata, processes * DEPTH)
