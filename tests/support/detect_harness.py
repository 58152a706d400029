"""The worker of detect_svc with any detector, on a real broker with a topic and a group for each test."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from detect_svc.detectors.detector import Detector
from detect_svc.frames.clip_frames import ClipDecoders
from detect_svc.worker import DetectWorker
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import FileFingerprint, Media
from mesh.blobs import Blobs, FileBlobs
from mesh.bus import Bus, Delivery, Stream, Tail
from mesh.config import Config
from mesh.identity import media_id
from mesh.topics import DETECTED, REJECTED, M, Topic, dead_letters
from tests.support.blobs import keep_blob
from tests.support.photos import animals, empty_photo, people, renumbered
from tests.support.records import media_topic, unique

BATCH = 8


@dataclass
class DetectHarness:
    """Input is a topic of the test; output goes to the real topics."""

    bus: Bus
    blobs: Blobs
    config: Config
    topic: Topic[MediaIngested]
    group: str
    detected: Tail[MediaDetected]
    rejected: Tail[MediaRejected]

    async def ingest(self, camera: str, photos: Sequence[bytes], *, stored: bool = True) -> list[str]:
        """Stores the photos as blobs, unless `stored` is False, and publishes their records, as ingest_svc
        does. Returns the media ids in order."""
        records = [record(camera, index, photo) for index, photo in enumerate(photos)]
        if stored:
            for photo in photos:
                await keep_blob(self.blobs, photo)
        await self.bus.publish(self.topic, *records)
        return [one.media.id for one in records]

    @asynccontextmanager
    async def working(self, detector: Detector) -> AsyncIterator[Stream[MediaIngested]]:
        async with (
            self.bus.consume(self.topic, self.group) as stream,
            ClipDecoders(self.config, detector.input_size) as decoders,
        ):
            work = DetectWorker(stream, detector, self.blobs, BATCH, decoders).run()
            task = asyncio.create_task(work)
            try:
                yield stream
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def detections(self, camera: str, count: int) -> list[MediaDetected]:
        return await first(self.detected, camera, count)

    async def dead_letter(self) -> Delivery[MediaIngested]:
        """Returns the first dead letter of the group."""
        letters = Topic(
            dead_letters(self.group), MediaIngested, lambda m: m.media.camera_id, "", 1, None, (), ()
        )
        async with self.bus.tail(letters, start="beginning") as tail:
            return await asyncio.wait_for(anext(tail), 90)


@asynccontextmanager
async def open_detect_harness(bus: Bus, folder: Path, config: Config) -> AsyncIterator[DetectHarness]:
    group, blobs = unique("detect"), FileBlobs(folder)
    await bus.create_topics([], [group])
    async with AsyncExitStack() as stack:
        stack.callback(blobs.close)
        detected = await stack.enter_async_context(bus.tail(DETECTED))
        rejected = await stack.enter_async_context(bus.tail(REJECTED))
        yield DetectHarness(bus, blobs, config, await media_topic(bus), group, detected, rejected)


def record(camera: str, index: int, photo: bytes) -> MediaIngested:
    sha256 = hashlib.sha256(photo).hexdigest()
    file = FileFingerprint(path=f"{camera}/{index}.jpg", size_bytes=len(photo), mtime_ns=index)
    media = Media(
        id=media_id(camera, sha256), camera_id=camera, sha256=sha256, size_bytes=len(photo), file=file
    )
    return MediaIngested(media=media)


async def first(tail: Tail[M], camera: str, count: int) -> list[M]:
    """Returns the next `count` messages of the camera."""
    found: list[M] = []
    async with asyncio.timeout(90):
        while len(found) < count:
            delivery = await anext(tail)
            if delivery.key == camera:
                found.append(delivery.message)
    return found


def varied(count: int) -> list[bytes]:
    """Returns different photos of people, animals and an empty scene, in turn."""
    samples = [*people(), *animals(), empty_photo()]
    return [renumbered(samples[index % len(samples)], index) for index in range(count)]
