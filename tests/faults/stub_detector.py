"""A stub in place of a detector, for fault runs: it looks at no picture, and its findings follow from the
content alone."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from detect_svc.detectors.detector import DecodedPicture, Photo, ServerState
from detect_svc.detectors.frame_message import Finding, frame_message
from lares.detect.v1.detection_pb2 import Frame
from mesh.config import Config
from mesh.labels import COCO_LABELS
from mesh.problems import Invalid, NotFound

LABELS = ("person", "dog", "car", "cat")
# A photo that ends with this is one that the stub refuses, as a decoder refuses a damaged one.
DAMAGED = b"\nthe stub detector refuses this"
# ... and in one that ends with this, it finds nothing.
EMPTY = b"\nthe stub detector finds nothing"
WIDTH, HEIGHT = 640, 480


class StubDetector:
    """A Detector. It finds one to three things in a picture, the first of them a person in every second one,
    and nothing in a photo that is marked as empty."""

    name = "stub-detector"
    digest = hashlib.sha256(b"tests.faults.stub_detector 1").hexdigest()
    labels: tuple[str, ...] = COCO_LABELS
    input_size = (320, 320)
    threshold, fast_threshold = 0.5, 0.8
    photos_in_flight = 4

    async def detect(self, photo: Photo) -> Frame:
        if isinstance(photo, DecodedPicture):
            # The pixels of a decoded clip are the same in every run, as decoding is.
            return frame_message(photo.width, photo.height, _findings(photo.pixels))
        try:
            content = photo.read_bytes() if isinstance(photo, Path) else photo
        except FileNotFoundError:
            raise NotFound("there is no such file", "BLOB_NOT_FOUND") from None
        if content.endswith(DAMAGED):
            raise Invalid("the stub detector refuses it", "CORRUPT")
        return frame_message(WIDTH, HEIGHT, [] if content.endswith(EMPTY) else _findings(content))

    async def check(self) -> None:
        return None

    def servers(self) -> Sequence[ServerState]:
        return ()


def _findings(content: bytes) -> list[Finding]:
    digest = hashlib.sha256(content).digest()
    found: list[Finding] = []
    for rank in range(1 + digest[0] % 3):
        label = LABELS[digest[1 + rank] % len(LABELS)] if rank or digest[1] % 2 else "person"
        left, top = digest[8 + rank] / 512, digest[16 + rank] / 512
        found.append((label, 0.95 - 0.1 * rank, (left, top, left + 0.25, top + 0.4)))
    return found


@asynccontextmanager
async def open_stub_detector(config: Config) -> AsyncIterator[StubDetector]:
    """In place of `open_detector`; LARES_DETECTOR_URL is not looked at."""
    yield StubDetector()
