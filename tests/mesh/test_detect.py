"""detect_svc on a real broker, with the real detector: nothing lost, nothing twice, nobody held up."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from detect_svc import worker
from detect_svc.filter import Filter
from detect_svc.labels import CANONICAL
from detect_svc.litert import EfficientDetLite0
from detect_svc.worker import Worker
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import FileFingerprint, Media, RejectionReason
from mesh.artifacts import efficientdet_lite0
from mesh.blobs import Blobs
from mesh.bus import Bus, Delivery, Stream, Tail, open_bus
from mesh.config import load_config
from mesh.identity import media_id
from mesh.sandbox import Sandbox
from mesh.topics import DETECTED, REJECTED, M, Topic, dead_letters
from tests.support.photos import animals, empty_photo, people, renumbered
from tests.support.records import media_topic, no_lag, unique
from tests.support.sandboxed import MAGIC
from tests.support.waiting import until

FRAGILE = "tests.support.sandboxed:fragile"


@pytest.fixture(scope="module")
async def bus(kafka_url: str) -> AsyncIterator[Bus]:
    async with open_bus(kafka_url, client_id="detect-test") as bus:
        await bus.create_topics()
        yield bus


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    config = load_config()
    setup = [str(efficientdet_lite0(config.cache)), 1, config.ingest_max_pixels]
    async with Sandbox(FRAGILE, setup=setup, size=2, depth=2) as sandbox:
        yield sandbox


@dataclass
class House:
    """One topic and group of a test's own; what comes out goes to the real topics."""

    bus: Bus
    blobs: Blobs
    sandbox: Sandbox
    topic: Topic[MediaIngested]
    group: str
    detected: Tail[MediaDetected]
    rejected: Tail[MediaRejected]

    async def ingest(self, camera: str, photos: Sequence[bytes], *, stored: bool = True) -> list[str]:
        """As ingest_svc does: the blobs, then the records. Returns the media ids, in order."""
        records = [record(camera, index, photo) for index, photo in enumerate(photos)]
        if stored:
            for one, photo in zip(records, photos, strict=True):
                await self.blobs.put_bytes(one.media.sha256, photo)
        await self.bus.publish(self.topic, *records)
        return [one.media.id for one in records]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Stream[MediaIngested]]:
        detector = EfficientDetLite0(self.sandbox, "ab" * 32, CANONICAL)
        rule = Filter.of(load_config(), detector)
        async with self.bus.consume(self.topic, self.group) as stream:
            work = Worker(stream, detector, rule, lambda _: None, self.blobs, 8).run()
            task = asyncio.create_task(work)
            try:
                yield stream
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def detections(self, camera: str, count: int) -> list[MediaDetected]:
        return await first(self.detected, camera, count)

    async def dead_letter(self) -> Delivery[MediaIngested]:
        """The group's first."""
        letters = Topic(
            dead_letters(self.group), MediaIngested, lambda m: m.media.camera_id, "", 1, None, (), ()
        )
        async with self.bus.tail(letters, start="beginning") as tail:
            return await asyncio.wait_for(anext(tail), 90)


def record(camera: str, index: int, photo: bytes) -> MediaIngested:
    sha256 = hashlib.sha256(photo).hexdigest()
    file = FileFingerprint(path=f"{camera}/{index}.jpg", size_bytes=len(photo), mtime_ns=index)
    media = Media(
        id=media_id(camera, sha256), camera_id=camera, sha256=sha256, size_bytes=len(photo), file=file
    )
    return MediaIngested(media=media)


async def first(tail: Tail[M], camera: str, count: int) -> list[M]:
    """The next `count` messages of the camera."""
    found: list[M] = []
    async with asyncio.timeout(90):
        while len(found) < count:
            delivery = await anext(tail)
            if delivery.key == camera:
                found.append(delivery.message)
    return found


@pytest.fixture
async def house(bus: Bus, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[House]:
    group, blobs = unique("detect"), Blobs(tmp_path)
    await bus.create_topics([], [group])
    async with AsyncExitStack() as stack:
        stack.callback(blobs.close)
        detected = await stack.enter_async_context(bus.tail(DETECTED))
        rejected = await stack.enter_async_context(bus.tail(REJECTED))
        yield House(bus, blobs, sandbox, await media_topic(bus), group, detected, rejected)


def varied(count: int) -> list[bytes]:
    samples = [*people(), *animals(), empty_photo()]
    return [renumbered(samples[index % len(samples)], index) for index in range(count)]


async def test_each_photo_is_told_once_in_the_order_of_its_camera(house: House) -> None:
    cameras = [unique("cam") for _ in range(3)]
    async with house.working():
        sent = await asyncio.gather(*(house.ingest(camera, varied(12)) for camera in cameras))
        told: dict[str, list[MediaDetected]] = {camera: [] for camera in cameras}
        async with asyncio.timeout(90):
            while sum(map(len, told.values())) < 36:
                delivery = await anext(house.detected)
                if delivery.key in told:
                    told[delivery.key].append(delivery.message)
    assert {camera: [one.media.id for one in messages] for camera, messages in told.items()} == dict(
        zip(cameras, sent, strict=True)
    )
    by_place = [[one.label for one in message.detections] for message in told[cameras[0]]]
    assert by_place[0].count("person") >= 4
    assert by_place[4:7] == [["cat"], ["bird"], ["cow", "cow"]]
    assert by_place[7] == []


async def test_a_photo_that_crashes_its_decoder_is_a_dead_letter_and_the_others_go_on(house: House) -> None:
    camera = unique("cam")
    photos = varied(6)
    photos[2] += MAGIC
    async with house.working() as stream:
        ids = await house.ingest(camera, photos)
        told = await house.detections(camera, 5)
        await no_lag(stream)
    assert [one.media.id for one in told] == ids[:2] + ids[3:]
    letter = await house.dead_letter()
    assert letter.message == record(camera, 2, photos[2])
    assert letter.headers["reason"] == "DECODER_CRASHED"
    assert letter.headers["attempts"] == "2"
    assert letter.headers["origin-topic"] == house.topic.name


async def test_bad_photos_are_rejections_and_never_empty_results(house: House) -> None:
    camera, whole = unique("cam"), renumbered(people()[0], 1)
    async with house.working():
        ids = await house.ingest(camera, [whole[: len(whole) // 2], b"hello", whole])
        (good,) = await house.detections(camera, 1)
        bad = await first(house.rejected, camera, 2)
    assert good.media.id == ids[2]
    assert {message.media_id: RejectionReason.Name(message.reason) for message in bad} == {
        ids[0]: "REJECTION_REASON_TRUNCATED",
        ids[1]: "REJECTION_REASON_NOT_AN_IMAGE",
    }


async def test_children_killed_from_outside_cost_nothing(house: House) -> None:
    camera = unique("cam")
    async with house.working() as stream:
        ids = await house.ingest(camera, varied(24))
        told: list[MediaDetected] = []
        for _ in range(3):
            told += await house.detections(camera, 6)
            for pid in house.sandbox.pids[:1]:
                os.kill(pid, signal.SIGKILL)
        told += await house.detections(camera, 6)
        await no_lag(stream)
        await until(lambda: len(house.sandbox.pids) == 2)
    assert [one.media.id for one in told] == ids


async def test_what_was_under_way_when_the_worker_ended_comes_again_and_is_the_same(house: House) -> None:
    camera = unique("cam")
    ids = await house.ingest(camera, varied(24))
    told: list[MediaDetected] = []
    for _ in range(3):
        async with house.working():
            told += await house.detections(camera, 4)
    async with house.working() as stream:
        async with asyncio.timeout(90):
            while {one.media.id for one in told} != set(ids):
                told += await house.detections(camera, 1)
        await no_lag(stream)
    answers: dict[str, set[bytes]] = {}
    for one in told:
        one.ClearField("detected_at")
        answers.setdefault(one.media.id, set()).add(one.SerializeToString(deterministic=True))
    assert all(len(same) == 1 for same in answers.values())


async def test_a_photo_whose_content_is_gone_is_a_dead_letter(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_BACKOFF_SECONDS", 0.01)
    camera = unique("cam")
    async with house.working() as stream:
        await house.ingest(camera, [b"never stored"], stored=False)
        (kept,) = await house.ingest(camera, varied(1))
        (told,) = await house.detections(camera, 1)
        await no_lag(stream)
    assert told.media.id == kept
    assert (await house.dead_letter()).headers["reason"] == "BLOB_NOT_FOUND"
