"""The worker loop with a fake stream: each record becomes a detection, a rejection or a dead letter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from detect_svc import worker as worker_module
from detect_svc.detectors.frame_message import frame_message
from detect_svc.frames.clip_frames import ClipDecoders
from detect_svc.worker import DetectWorker
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from mesh.bus import Stream
from mesh.config import load_config
from mesh.problems import Conflict, Exhausted, Internal, Invalid, NotFound, Unavailable
from mesh.processes.sandbox import Crashed, Hung
from mesh.retry import Backoff
from mesh.topics import DETECTED, REJECTED
from tests.support.blobs import NamedBlobs
from tests.support.detectors import FakeDetector, FakeStream, person
from tests.support.waiting import until

BATCH = 3


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BACKOFF", Backoff(0.001, 0.002))


@asynccontextmanager
async def started(stream: FakeStream, detector: FakeDetector) -> AsyncIterator["asyncio.Task[None]"]:
    blobs = NamedBlobs(Path("/nowhere"))
    async with ClipDecoders(load_config(), detector.input_size) as decoders:
        worker = DetectWorker(cast(Stream[MediaIngested], stream), detector, blobs, BATCH, decoders)
        task = asyncio.create_task(worker.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            blobs.close()


@asynccontextmanager
async def running(stream: FakeStream, detector: FakeDetector) -> AsyncIterator[None]:
    async with started(stream, detector) as task:
        yield
        assert not task.done()


def detected(stream: FakeStream, offset: int) -> MediaDetected:
    ((topic, message),) = stream.outputs[offset]
    assert topic is DETECTED
    assert isinstance(message, MediaDetected)
    return message


async def test_all_findings_are_published_with_their_media_and_model() -> None:
    stream, detector = FakeStream(), FakeDetector()
    kite = ("kite", 0.9, (0, 0, 1, 1))
    detector.results["a"] = frame_message(4, 3, [person(0.9), kite, person(0.1)])

    def with_capture_time(media: Media) -> None:
        media.captured_at.FromSeconds(1_767_614_400)

    async with running(stream, detector):
        stream.put("a", change=with_capture_time)
        await stream.wait_until_done(1)
    message = detected(stream, 0)
    assert message.media.id == "id-a"
    assert message.media.file.path == "door/a.jpg"
    assert message.HasField("detected_at")
    assert message.detector == message.model.id == "fake@abababababab"
    assert list(message.model.labels) == list(FakeDetector.labels)
    assert (message.model.threshold, message.model.fast_threshold) == (0.5, 0.8)
    (frame,) = message.frames
    assert (frame.index, frame.width, frame.height, frame.motion_significance) == (0, 4, 3, 0)
    assert frame.captured_at.seconds == 1_767_614_400
    assert [(one.rank, one.label) for one in frame.detections] == [(0, "person"), (1, "kite"), (2, "person")]
    assert [one.score for one in frame.detections] == pytest.approx([0.9, 0.9, 0.1])
    box = frame.detections[0].bounding_box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    # These fields of earlier versions would mean that the findings were filtered.
    assert not message.detections
    assert not message.urgent


async def test_known_content_is_passed_on_without_being_looked_at() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["known"] = Invalid("the photo is bad", "CORRUPT")

    def known(media: Media) -> None:
        media.known_content = True

    async with running(stream, detector):
        stream.put("known", change=known)
        stream.put("new")
        await stream.wait_until_done(2)
    message = detected(stream, 0)
    assert (message.media.file.path, message.media.known_content) == ("door/known.jpg", True)
    assert message.HasField("detected_at")
    assert not message.frames
    assert not message.detector
    assert detector.requested == ["new"]


async def test_what_follows_from_a_backlog_is_not_urgent() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["bad"] = Invalid("the photo is bad", "CORRUPT")

    def known(media: Media) -> None:
        media.known_content = True

    async with running(stream, detector):
        stream.put("old", "bad", backlog=True)
        stream.put("known", backlog=True, change=known)
        stream.put("live")
        await stream.wait_until_done(4)
    assert stream.urgent == {3}


async def test_an_empty_result_is_a_result() -> None:
    stream, detector = FakeStream(), FakeDetector()
    async with running(stream, detector):
        stream.put("a")
        await stream.wait_until_done(1)
    (frame,) = detected(stream, 0).frames
    assert list(frame.detections) == []


async def test_the_number_of_findings_is_not_limited() -> None:
    """RT-DETRv2 may return more than 100, and a camera's threshold may keep all of them."""
    stream, detector = FakeStream(), FakeDetector()
    detector.results["a"] = frame_message(4, 3, [person(0.9 - rank / 500) for rank in range(300)])
    async with running(stream, detector):
        stream.put("a")
        await stream.wait_until_done(1)
    (frame,) = detected(stream, 0).frames
    assert [one.rank for one in frame.detections] == list(range(300))


@pytest.mark.parametrize("reason", ["TRUNCATED", "CORRUPT", "TOO_MANY_PIXELS", "NOT_AN_IMAGE"])
async def test_a_bad_photo_is_a_rejection_of_its_file(reason: str) -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["bad"] = Invalid("the photo is bad", reason)
    async with running(stream, detector):
        stream.put("bad", "good")
        await stream.wait_until_done(2)
    ((topic, message),) = stream.outputs[0]
    assert topic is REJECTED
    assert isinstance(message, MediaRejected)
    assert RejectionReason.Name(message.reason) == f"REJECTION_REASON_{reason}"
    assert (message.media_id, message.camera_id, message.detail) == ("id-bad", "door", "the photo is bad")
    assert (message.file.path, message.file.size_bytes, message.file.mtime_ns) == ("door/bad.jpg", 9, 7)
    assert message.HasField("rejected_at")
    assert detected(stream, 1).media.id == "id-good"
    assert detector.requested.count("bad") == 1


async def test_a_bad_upload_is_a_rejection_without_a_file() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["bad"] = detector.results["worse"] = Invalid("the photo is bad", "CORRUPT")
    async with running(stream, detector):
        stream.put("bad", "worse", change=lambda media: media.ClearField("file"))
        await stream.wait_until_done(2)
    messages = [cast(MediaRejected, stream.outputs[offset][0][1]) for offset in (0, 1)]
    assert not any(message.HasField("file") for message in messages)
    assert len({message.rejection_id for message in messages}) == 2


@pytest.mark.parametrize(
    ("problem", "reason", "attempts"),
    [
        (Crashed("dead", "CHILD_CRASHED"), "DECODER_CRASHED", 2),
        (Hung("slow", "CHILD_HUNG"), "DECODER_HUNG", 3),
        (NotFound("gone", "BLOB_NOT_FOUND"), "BLOB_NOT_FOUND", 5),
        (Internal("MemoryError", "CHILD_FAILED"), "CHILD_FAILED", 1),
        (Invalid("what is this", "NO_SUCH_REASON"), "NO_SUCH_REASON", 1),
        (Invalid("unexpected shape", "DETECTOR_REFUSED"), "DETECTOR_REFUSED", 1),
        (Internal("not numbers", "DETECTOR_NONSENSE"), "DETECTOR_NONSENSE", 1),
        (RuntimeError("a bug"), "UNEXPECTED", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_a_photo_that_cannot_be_detected_is_a_dead_letter_and_the_others_are_processed(
    problem: Exception, reason: str, attempts: int
) -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["bad"] = problem
    async with running(stream, detector):
        stream.put("a", "bad", "b", "c", "d")
        await stream.wait_until_done(5)
    assert stream.buried == {1: (reason, attempts)}
    rejection = stream.outputs.pop(1, None)
    # A failure that missing content or a bug may explain is not a rejection: the file is announced again.
    assert (rejection is not None) == isinstance(problem, Invalid | Hung)
    assert {offset: detected(stream, offset).media.id for offset in stream.outputs} == {
        0: "id-a", 2: "id-b", 3: "id-c", 4: "id-d"
    }  # fmt: skip


async def test_a_photo_that_crashes_the_decoder_is_also_a_rejection_of_its_file() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["bad"] = Crashed("this input crashes it", "CHILD_CRASHED")
    async with running(stream, detector):
        stream.put("bad")
        await stream.wait_until_done(1)
    ((topic, message),) = stream.outputs[0]
    assert topic is REJECTED
    assert isinstance(message, MediaRejected)
    assert RejectionReason.Name(message.reason) == "REJECTION_REASON_UNDETECTABLE"
    assert message.detail == "DECODER_CRASHED: this input crashes it"
    assert (message.media_id, message.file.path) == ("id-bad", "door/bad.jpg")


@pytest.mark.parametrize(
    "temporary", [Unavailable("away", "CHILD_NOT_STARTED"), Exhausted("full", "SANDBOX_FULL")]
)
async def test_a_temporary_failure_is_retried_until_it_ends(temporary: Exception) -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["a"] = [*[temporary] * 20, frame_message(4, 3, [person(0.9)])]
    async with running(stream, detector):
        stream.put("a")
        await stream.wait_until_done(1)
    assert len(detected(stream, 0).frames[0].detections) == 1
    assert not stream.buried


async def test_a_photo_that_hangs_twice_is_retried() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.results["a"] = [Hung("slow", "CHILD_HUNG"), Hung("slow", "CHILD_HUNG"), frame_message(4, 3, [])]
    async with running(stream, detector):
        stream.put("a")
        await stream.wait_until_done(1)
    assert detected(stream, 0).media.id == "id-a"


async def test_no_more_photos_are_taken_while_the_detector_is_not_available() -> None:
    stream, detector = FakeStream(), FakeDetector()
    names = [f"p{index}" for index in range(10)]
    for name in names:
        detector.results[name] = Unavailable("away", "CHILD_NOT_STARTED")
    async with running(stream, detector):
        stream.put(*names)
        async with asyncio.timeout(90):
            while len(detector.requested) < 30:
                await asyncio.sleep(0.005)
        assert set(detector.requested) == set(names[:BATCH])
        assert not stream.order
        detector.results.clear()
        await stream.wait_until_done(10)
    assert sorted(stream.outputs) == list(range(10))


async def test_a_slow_photo_does_not_delay_the_others() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.gates["slow"] = asyncio.Event()
    async with running(stream, detector):
        stream.put("slow", "a", "b", "c", "d")
        await stream.wait_until_done(4)
        assert sorted(stream.order) == [1, 2, 3, 4]
        detector.gates["slow"].set()
        await stream.wait_until_done(5)
    assert 1 < detector.busiest <= BATCH


async def test_as_many_photos_are_in_flight_as_keep_the_detector_busy() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.photos_in_flight = BATCH + 2
    names = [f"p{index}" for index in range(9)]
    detector.gates = dict.fromkeys(names, asyncio.Event())
    async with running(stream, detector):
        stream.put(*names)
        await until(lambda: detector.busy == BATCH + 2)
        detector.gates["p0"].set()
        await stream.wait_until_done(9)
    assert detector.busiest == BATCH + 2


async def test_photos_that_wait_for_nothing_leave_room_for_other_work() -> None:
    stream, detector, turns = FakeStream(), FakeDetector(), 0

    def known(media: Media) -> None:
        media.known_content = True

    stream.put(*map(str, range(300)), change=known)
    async with running(stream, detector):
        while len(stream.order) < 300:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 300 / BATCH
    assert stream.order == list(range(300))


async def test_an_error_of_the_stream_ends_the_loop() -> None:
    stream, detector = FakeStream(), FakeDetector()
    detector.gates["slow"] = asyncio.Event()
    async with started(stream, detector) as task:
        stream.put("slow")
        await until(lambda: detector.requested == ["slow"])
        stream.stop(Conflict("another log", "OFFSET_OUT_OF_RANGE"))
        with pytest.raises(Conflict, match="another log"):
            await asyncio.wait_for(task, 90)


async def test_a_dead_letter_is_retried_until_the_bus_is_available() -> None:
    stream, detector = FakeStream(), FakeDetector()
    stream.broken_burials = 3
    detector.results["bad"] = Crashed("dead", "CHILD_CRASHED")
    async with running(stream, detector):
        stream.put("bad")
        await stream.wait_until_done(1)
    assert stream.buried == {0: ("DECODER_CRASHED", 2)}
