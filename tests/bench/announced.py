"""Photos that are announced on the log as ingest_svc would, made in advance: the same ones in every run."""

import asyncio
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from detect_svc.messages import detected, model_of
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested
from lares.ingest.v1.media_pb2 import CAPTURED_AT_SOURCE_MTIME, MEDIA_TYPE_JPEG, Media
from mesh.blobs import Blob, Blobs
from mesh.identity import media_id
from tests.faults.load import one_camera_for_each_partition
from tests.faults.stub_detector import HEIGHT, WIDTH, StubDetector
from tests.support.photos import renumbered

# 2026-01-05 12:00:00 UTC.
START = 1_767_614_400
# The photos of a camera are a second apart; after so many there is a pause, and an event of its own.
OF_AN_EVENT, PAUSE_SECONDS = 8, 600
SIDE = 16
PUTS_AT_ONCE = 64


def camera_names(count: int) -> list[str]:
    """Names of cameras that have as many on each partition, if `count` is a multiple of 12."""
    return list(itertools.islice(itertools.chain.from_iterable(one_camera_for_each_partition()), count))


def tiny_photo(folder: Path) -> Path:
    """A JPEG of 16x16 pixels, for detectors that do not look at it."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = folder / "tiny.jpg"
    _, jpeg = cv2.imencode(".jpg", np.zeros((SIDE, SIDE, 3), np.uint8))
    photo.write_bytes(jpeg.tobytes())
    return photo


def contents(samples: Sequence[Path], count: int) -> list[bytes]:
    """`count` different photos: the samples in turn, each with a number in a comment."""
    return [renumbered(samples[number % len(samples)], number) for number in range(count)]


async def keep(blobs: Blobs, contents: Sequence[bytes]) -> list[Blob]:
    """Puts them into the blobs, and returns their names in the same order."""
    slots = asyncio.Semaphore(PUTS_AT_ONCE)

    async def put(content: bytes) -> Blob:
        async with slots:
            return await blobs.put(io.BytesIO(content))

    return list(await asyncio.gather(*map(put, contents)))


def media(names: Sequence[str], blobs: Sequence[Blob]) -> Iterator[Media]:
    """A photo of every content by every camera, the cameras in turn. Ids come from camera and content, so all
    are different."""
    for turn, blob in enumerate(blobs):
        event, place = divmod(turn, OF_AN_EVENT)
        for camera in names:
            yield _photo(camera, turn, blob, START + event * PAUSE_SECONDS + place)


def ingested(photo: Media) -> MediaIngested:
    """What ingest_svc announces of a backlog."""
    return MediaIngested(media=photo, backlog=True)


async def detected_by_stub(photo: Media, content: bytes) -> MediaDetected:
    """What a detect_svc with the stub publishes of this photo."""
    stub = StubDetector()
    return detected(photo, await stub.detect(content), model_of(stub))


def _photo(camera: str, turn: int, blob: Blob, captured_at: int) -> Media:
    photo = Media(
        id=media_id(camera, blob.sha256),
        camera_id=camera,
        camera_name=camera,
        sha256=blob.sha256,
        size_bytes=blob.size,
        type=MEDIA_TYPE_JPEG,
        width=WIDTH,
        height=HEIGHT,
        captured_at_source=CAPTURED_AT_SOURCE_MTIME,
    )
    photo.captured_at.FromSeconds(captured_at)
    photo.ingested_at.FromSeconds(captured_at)
    photo.file.path, photo.file.size_bytes = f"{camera}/{turn}.jpg", blob.size
    photo.file.mtime_ns = photo.file.ctime_ns = captured_at * 10**9
    return photo
