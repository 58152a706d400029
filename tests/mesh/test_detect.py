"""detect_svc on a real broker with a real detector: no photo is lost, published twice or delayed by
another."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from detect_svc import worker
from detect_svc.detectors.detector import Detector
from detect_svc.detectors.litert import LiteRtDetector
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import RejectionReason
from mesh.artifacts import efficientdet_lite0
from mesh.bus import Bus
from mesh.config import WATCHED, load_config
from mesh.labels import COCO_LABELS
from mesh.problems import Internal
from mesh.processes.sandbox import Sandbox
from mesh.retry import Backoff
from tests.support.detect_harness import DetectHarness, first, open_detect_harness, record, varied
from tests.support.photos import people, renumbered
from tests.support.records import no_lag, unique
from tests.support.sandboxed import MAGIC
from tests.support.waiting import until

FRAGILE = "tests.support.sandboxed:fragile"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    config = load_config()
    setup = [str(efficientdet_lite0(config.cache)), 1, config.ingest_max_pixels]
    async with Sandbox(FRAGILE, setup=setup, size=2, depth=2) as sandbox:
        yield sandbox


@pytest.fixture
def detector(sandbox: Sandbox) -> LiteRtDetector:
    return LiteRtDetector(sandbox, "ab" * 32, COCO_LABELS)


@pytest.fixture
async def harness(bus: Bus, tmp_path: Path) -> AsyncIterator[DetectHarness]:
    async with open_detect_harness(bus, tmp_path, load_config()) as harness:
        yield harness


async def test_each_photo_is_published_once_in_the_order_of_its_camera(
    harness: DetectHarness, detector: Detector
) -> None:
    cameras = [unique("cam") for _ in range(3)]
    async with harness.working(detector):
        sent = await asyncio.gather(*(harness.ingest(camera, varied(12)) for camera in cameras))
        published: dict[str, list[MediaDetected]] = {camera: [] for camera in cameras}
        async with asyncio.timeout(90):
            while sum(map(len, published.values())) < 36:
                delivery = await anext(harness.detected)
                if delivery.key in published:
                    published[delivery.key].append(delivery.message)
    assert {camera: [one.media.id for one in messages] for camera, messages in published.items()} == dict(
        zip(cameras, sent, strict=True)
    )
    labels = [labels_of(message) for message in published[cameras[0]]]
    assert labels[0].count("person") >= 4
    assert labels[4:7] == [["cat"], ["bird"], ["cow", "cow"]]
    assert labels[7] == []


def labels_of(message: MediaDetected) -> list[str]:
    """The labels that are watched by default, from the detector's own threshold."""
    (frame,) = message.frames
    found = [one for one in frame.detections if one.score >= message.model.threshold]
    return [one.label for one in found if one.label in WATCHED.split(",")]


async def test_a_photo_that_crashes_its_decoder_is_a_dead_letter_and_the_others_are_processed(
    harness: DetectHarness, detector: Detector
) -> None:
    camera = unique("cam")
    photos = varied(6)
    photos[2] += MAGIC
    async with harness.working(detector) as stream:
        ids = await harness.ingest(camera, photos)
        published = await harness.detections(camera, 5)
        await no_lag(stream)
    assert [one.media.id for one in published] == ids[:2] + ids[3:]
    letter = await harness.dead_letter()
    assert letter.message == record(camera, 2, photos[2])
    assert letter.headers["reason"] == "DECODER_CRASHED"
    assert letter.headers["attempts"] == "2"
    assert letter.headers["origin-topic"] == harness.topic.name
    (rejection,) = await first(harness.rejected, camera, 1)
    assert (rejection.media_id, rejection.reason) == (ids[2], RejectionReason.REJECTION_REASON_UNDETECTABLE)


async def test_bad_photos_are_rejections_and_never_empty_results(
    harness: DetectHarness, detector: Detector
) -> None:
    camera, whole = unique("cam"), renumbered(people()[0], 1)
    async with harness.working(detector):
        ids = await harness.ingest(camera, [whole[: len(whole) // 2], b"hello", whole])
        (good,) = await harness.detections(camera, 1)
        bad = await first(harness.rejected, camera, 2)
    assert good.media.id == ids[2]
    assert {message.media_id: RejectionReason.Name(message.reason) for message in bad} == {
        ids[0]: "REJECTION_REASON_TRUNCATED",
        ids[1]: "REJECTION_REASON_NOT_AN_IMAGE",
    }


async def test_no_photo_is_lost_when_children_are_killed(
    harness: DetectHarness, detector: Detector, sandbox: Sandbox
) -> None:
    camera = unique("cam")
    async with harness.working(detector) as stream:
        ids = await harness.ingest(camera, varied(24))
        published: list[MediaDetected] = []
        for _ in range(3):
            published += await harness.detections(camera, 6)
            await kill_one(sandbox)
        published += await harness.detections(camera, 6)
        await no_lag(stream)
        await until(lambda: len(sandbox.pids) == 2)
    assert [one.media.id for one in published] == ids


async def kill_one(sandbox: Sandbox) -> None:
    """Kills a child, if one is alive, and waits until the sandbox has noticed, so that no pid is killed
    twice."""
    if sandbox.pids:
        killed = sandbox.pids[0]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: killed not in sandbox.pids)


async def test_photos_in_flight_when_the_worker_ends_are_detected_again_with_the_same_result(
    harness: DetectHarness, detector: Detector
) -> None:
    camera = unique("cam")
    ids = await harness.ingest(camera, varied(24))
    published: list[MediaDetected] = []
    for _ in range(3):
        async with harness.working(detector):
            published += await harness.detections(camera, 4)
    async with harness.working(detector) as stream:
        async with asyncio.timeout(90):
            while {one.media.id for one in published} != set(ids):
                published += await harness.detections(camera, 1)
        await no_lag(stream)
    answers: dict[str, set[bytes]] = {}
    for one in published:
        one.ClearField("detected_at")
        answers.setdefault(one.media.id, set()).add(one.SerializeToString(deterministic=True))
    assert all(len(same) == 1 for same in answers.values())


async def test_a_photo_without_content_is_a_dead_letter(
    harness: DetectHarness, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BACKOFF", Backoff(0.01, 0.01))
    camera = unique("cam")
    async with harness.working(detector) as stream:
        await harness.ingest(camera, [b"never stored"], stored=False)
        (kept,) = await harness.ingest(camera, varied(1))
        (published,) = await harness.detections(camera, 1)
        await no_lag(stream)
    assert published.media.id == kept
    assert (await harness.dead_letter()).headers["reason"] == "BLOB_NOT_FOUND"


async def test_photos_wait_while_the_folder_of_the_blobs_is_away(
    harness: DetectHarness, detector: Detector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if its disk were not mounted. The child cannot tell this from content that is gone."""
    attempts = 0

    class CountedBackoff(Backoff):
        def pause(self, failures: int) -> float:
            nonlocal attempts
            attempts += 1
            return 0.01

    monkeypatch.setattr(worker, "BACKOFF", CountedBackoff(0.01, 0.01))
    camera = unique("cam")
    ids = await harness.ingest(camera, varied(4))
    aside = tmp_path.rename(tmp_path.with_name("aside"))
    async with harness.working(detector) as stream:
        await until(lambda: attempts > 40)  # more than a photo whose content is gone gets
        aside.rename(tmp_path)
        published = await harness.detections(camera, 4)
        await no_lag(stream)
    assert [one.media.id for one in published] == ids


async def test_a_child_that_returns_no_frame_is_an_error(tmp_path: Path) -> None:
    async with Sandbox("tests.support.sandboxed:first_of") as sandbox:
        detector = LiteRtDetector(sandbox, "ab" * 32, COCO_LABELS)
        assert list((await detector.detect(b"")).detections) == []
        for nonsense in (b"no frame", tmp_path):  # of which the child returns the path, as text
            with pytest.raises(Internal) as refused:
                await detector.detect(nonsense)
            assert refused.value.reason == "DETECTOR_NONSENSE"
