"""Detects in one clip: its frames are decoded while those before are looked at."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from detect_svc.detectors.detector import Detector
from detect_svc.frames.clip_frames import ClipDecoders, ClipFrame
from detect_svc.messages import clip_detected
from lares.detect.v1.detection_pb2 import DetectorModel, Frame
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import Media
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.processes.sandbox import Hung
from mesh.retry import Backoff
from mesh.task_group import task_group

log = structlog.get_logger(__name__)

BACKOFF = Backoff(0.4, 10.0)
# Findings of one frame that are told, the best.
MAX_FINDINGS = 20
MAX_MESSAGE_BYTES = 512 * 2**10


class ClipWorker:
    """Detects in one clip after another, or in several at once."""

    def __init__(self, detector: Detector, model: DetectorModel, decoders: ClipDecoders) -> None:
        self._detector, self._model, self._decoders = detector, model, decoders

    async def detect(self, media: Media, path: Path, is_wanted: Callable[[], bool]) -> MediaDetected:
        """`is_wanted` is asked before each look at a frame, because a clip may take minutes.

        Raises what `ClipDecoders.decoding` and `Detector.detect` raise, except that it waits while the
        detector is not available; Invalid TOO_MANY_FINDINGS; and Unavailable NOT_WANTED."""
        found: list[Frame] = []
        async with self._decoders.decoding(path) as (frames, summary):
            taking = asyncio.Lock()

            async def look() -> None:
                while True:
                    async with taking:
                        frame = await anext(frames, None)
                    if frame is None:
                        return
                    found.append(await self._look_at(frame, is_wanted))

            # As many at a time as keep the detector busy. They may end in any order.
            async with task_group() as group:
                for _ in range(self._detector.photos_in_flight):
                    group.create_task(look())
        found.sort(key=lambda frame: frame.index)
        message = clip_detected(media, found, self._model, self._decoders.choice(summary))
        if message.ByteSize() > MAX_MESSAGE_BYTES:
            raise Invalid(f"{sum(len(one.detections) for one in found)} findings", "TOO_MANY_FINDINGS")
        return message

    async def _look_at(self, frame: ClipFrame, is_wanted: Callable[[], bool]) -> Frame:
        attempts = 0
        while True:
            if not is_wanted():
                raise Unavailable("nobody wants this clip any more", "NOT_WANTED")
            try:
                found = await self._detector.detect(frame.picture)
                break
            except Hung:
                raise
            except (Unavailable, Exhausted) as problem:
                # The clip is not at fault, and what was found in it so far is not lost.
                attempts += 1
                log.warning("frame not processed, retrying", attempts=attempts, error=problem.message)
                await asyncio.sleep(BACKOFF.pause(attempts))
        found.index, found.motion_significance = frame.index, frame.movement
        del found.detections[MAX_FINDINGS:]
        return found
