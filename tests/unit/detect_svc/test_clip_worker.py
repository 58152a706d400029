"""The worker loop with clips: real decoders, a fake stream and a detector with prepared results."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest

from detect_svc import clip_worker as clip_worker_module
from detect_svc import worker as worker_module
from detect_svc.detectors.frame_message import frame_message
from detect_svc.frames import clip_frames
from detect_svc.frames.clip_frames import ClipDecoders
from detect_svc.worker import DetectWorker
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import MEDIA_TYPE_MP4, Media, RejectionReason
from mesh.bus import Stream
from mesh.config import load_config
from mesh.problems import Unavailable
from mesh.processes.sandbox import Sandbox
from mesh.retry import Backoff
from mesh.topics import DETECTED
from tests.support.blobs import NamedBlobs
from tests.support.clips import empty_scene, make_clip, walker_scene
from tests.support.detectors import FakeDetector, FakeStream, person
from tests.support.waiting import until

BATCH = 3
SIZE = "640x360"
CAPTURED = 1_767_614_400


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BACKOFF", Backoff(0.001, 0.002))
    monkeypatch.setattr(clip_worker_module, "BACKOFF", Backoff(0.001, 0.002))


class FolderBlobs(NamedBlobs):
    """Each file in a folder is a blob under its name."""

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256


@asynccontextmanager
async def running(
    stream: FakeStream, detector: FakeDetector, folder: Path, **settings: object
) -> AsyncIterator[ClipDecoders]:
    blobs = FolderBlobs(folder)
    async with ClipDecoders(load_config(**settings), detector.input_size) as decoders:
        worker = DetectWorker(cast(Stream[MediaIngested], stream), detector, blobs, BATCH, decoders)
        task = asyncio.create_task(worker.run())
        try:
            yield decoders
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])
            blobs.close()


def is_clip(media: Media) -> None:
    media.type = MEDIA_TYPE_MP4
    media.captured_at.FromSeconds(CAPTURED)
    media.ingested_at.FromSeconds(CAPTURED + 3600)


def detected(stream: FakeStream, offset: int) -> MediaDetected:
    ((topic, message),) = stream.outputs[offset]
    assert topic is DETECTED
    assert isinstance(message, MediaDetected)
    return message


def rejected(stream: FakeStream, offset: int) -> str:
    ((_, message),) = stream.outputs[offset]
    assert isinstance(message, MediaRejected)
    return RejectionReason.Name(message.reason).removeprefix("REJECTION_REASON_")


async def test_a_clips_frames_are_detected_with_their_times(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", walker_scene(8, walks=(3, 6)), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.results[SIZE] = frame_message(640, 360, [person(0.9 - rank / 100) for rank in range(30)])

    async with running(stream, detector, tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    message = detected(stream, 0)
    indices = [frame.index for frame in message.frames]
    assert indices == sorted(set(indices))
    assert (indices[0], indices[-1]) == (0, 7900)
    assert {3500, 4000, 4500, 5000, 5500} <= set(indices)
    for frame in message.frames:
        assert frame.captured_at.ToMilliseconds() == CAPTURED * 1000 + frame.index
        assert (frame.width, frame.height) == (640, 360)
        assert [one.rank for one in frame.detections] == list(range(20))
    moved = {frame.index: frame.motion_significance for frame in message.frames}
    assert moved[4500] > 0.01
    assert moved[0] == moved[2000] == 0
    choice = message.frame_choice
    assert (choice.version, choice.frame_seconds, choice.frames_per_minute) == ("frames/v1", 2, 30)
    assert (choice.max_frames, choice.motion_sensitivity) == (300, 0.5)
    assert choice.motion_threshold == load_config().motion_threshold
    assert choice.candidates >= len(indices)
    assert choice.undecodable == 0
    assert message.detector == "fake@abababababab"


async def test_no_frame_is_later_than_the_arrival_of_its_clip(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", empty_scene(10), container="mp4")
    stream, detector = FakeStream(), FakeDetector()

    def arrived_early(media: Media) -> None:
        is_clip(media)
        media.ingested_at.FromSeconds(CAPTURED + 4)

    async with running(stream, detector, tmp_path):
        stream.put("a", change=arrived_early)
        await stream.wait_until_done(1)

    times = [frame.captured_at.ToMilliseconds() for frame in detected(stream, 0).frames]
    assert times[-1] == (CAPTURED + 4) * 1000
    assert times[0] == times[-1] - 9900


async def test_photos_behind_a_clip_are_detected_while_it_is_in_work(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", empty_scene(4), container="mp4")
    make_clip(tmp_path / "b", empty_scene(4), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.gates[SIZE] = asyncio.Event()

    async with running(stream, detector, tmp_path):
        stream.put("a", *["b"] * (2 * BATCH), change=is_clip)
        stream.put("live", "photo")
        await stream.wait_until_done(2)
        first = {2 * BATCH + 1, 2 * BATCH + 2}
        assert set(stream.order) == first
        detector.gates[SIZE].set()
        await stream.wait_until_done(2 * BATCH + 3)

    assert len(detected(stream, 0).frames) >= 2


@pytest.mark.parametrize("count", [1, 2])
async def test_as_many_clips_are_in_work_as_there_are_decoders(tmp_path: Path, count: int) -> None:
    for name in ("a", "b", "c"):
        make_clip(tmp_path / name, empty_scene(2), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.gates[SIZE] = asyncio.Event()

    async with running(stream, detector, tmp_path, clip_decoders=count) as decoders:
        stream.put("a", "b", "c", change=is_clip)
        # Each clip has as many frames with the detector as keep it busy.
        await until(lambda: detector.busy == detector.photos_in_flight * count)
        assert len(decoders.pids) == count
        detector.gates[SIZE].set()
        await stream.wait_until_done(3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no clip at all" * 100, "CORRUPT"),
        (b"", "CORRUPT"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "UNSUPPORTED_VIDEO"),
    ],
)
async def test_what_is_no_clip_is_rejected(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path):
        stream.put("bad", change=is_clip)
        await stream.wait_until_done(1)

    assert rejected(stream, 0) in (reason, "CORRUPT", "TRUNCATED")
    assert not stream.buried


async def test_a_clip_of_which_nothing_decodes_has_no_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "bad", walker_scene(3), container="mp4", options={"movflags": "faststart"})
    content = path.read_bytes()
    at = content.index(b"mdat") + 4
    path.write_bytes(content[:at] + bytes(len(content) - at))
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path):
        stream.put("bad", change=is_clip)
        await stream.wait_until_done(1)

    assert rejected(stream, 0) == "NO_PICTURE"


async def test_a_clip_that_is_longer_than_its_header_says_is_rejected(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", empty_scene(5), container="mp4")
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path, clip_max_seconds=4):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert rejected(stream, 0) == "TOO_LONG"


async def test_more_findings_than_a_message_takes_are_a_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_worker_module, "MAX_MESSAGE_BYTES", 3_000)
    make_clip(tmp_path / "a", empty_scene(20), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.results[SIZE] = frame_message(640, 360, [person(0.9)] * 100)

    async with running(stream, detector, tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert rejected(stream, 0) == "TOO_MANY_FINDINGS"


async def test_without_the_packages_clips_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_frames, "find_spec", lambda name: None)
    make_clip(tmp_path / "a", empty_scene(2), container="mp4")
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert rejected(stream, 0) == "CLIPS_NOT_INSTALLED"


async def test_frames_wait_for_the_detector(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", empty_scene(4), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    away: list[object] = [Unavailable("away", "DETECTOR_AWAY")] * 20
    detector.results[SIZE] = [*away, frame_message(640, 360, [person(0.9)])]  # type: ignore[list-item]

    async with running(stream, detector, tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert all(len(frame.detections) == 1 for frame in detected(stream, 0).frames)


@pytest.mark.parametrize("signal_after", [0.0, 0.3])
async def test_a_decoder_that_is_killed_is_started_again(tmp_path: Path, signal_after: float) -> None:
    make_clip(tmp_path / "a", walker_scene(130), container="mp4")
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path) as decoders:
        stream.put("a", change=is_clip)
        await until(lambda: bool(decoders.pids))
        await asyncio.sleep(signal_after)
        for pid in decoders.pids:
            os.kill(pid, signal.SIGKILL)
        await stream.wait_until_done(1)
    indices = [frame.index for frame in detected(stream, 0).frames]

    other, again = FakeStream(), FakeDetector()
    async with running(other, again, tmp_path):
        other.put("a", change=is_clip)
        await other.wait_until_done(1)
    assert indices == [frame.index for frame in detected(other, 0).frames]
    assert indices[-1] == 129_900


async def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    stream, detector = FakeStream(), FakeDetector()

    async with running(stream, detector, tmp_path):
        stream.put("gone", change=is_clip)
        await stream.wait_until_done(1)

    assert stream.buried == {0: ("BLOB_NOT_FOUND", 5)}
    assert 0 not in stream.outputs


def forged(**fields: object) -> dict[str, object]:
    frame = {"index": 0, "movement": 0.0, "width": 2, "height": 1, "pixels": bytes(6)}
    return frame | {"pixels_width": 2, "pixels_height": 1} | fields


CARRY = {"candidates": 1, "undecodable": 0}


@pytest.mark.parametrize(
    "minute",
    [
        {"frames": [], "left": 1, "carry": CARRY, "is_last": False},
        {"frames": [], "left": 0, "carry": CARRY, "is_last": False},
        {"frames": [forged()], "left": 1, "carry": CARRY, "is_last": False},
        {"frames": [forged(), forged()], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(index=-1)], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(index=2**31)], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(index=float("inf"))], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(width=-5)], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(pixels_width=3)], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged(pixels="text")], "left": 0, "carry": CARRY, "is_last": True},
        {"frames": [forged()], "left": 0, "carry": {"candidates": "many"}, "is_last": True},
        {"frames": 5},
        [],
    ],
)
async def test_what_no_decoder_returns_ends_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minute: object
) -> None:
    """The child may be under foreign control: nothing that it says keeps the clips behind it waiting."""

    async def run(*_: object, **__: object) -> object:
        await asyncio.sleep(0)
        return minute

    monkeypatch.setattr(Sandbox, "run", run)
    (tmp_path / "a").touch()
    stream = FakeStream()
    async with running(stream, FakeDetector(), tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert stream.buried == {0: ("DECODER_NONSENSE", 1)}


async def test_movement_that_is_no_number_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = {"frames": [forged(movement=float("nan"))], "left": 0, "carry": CARRY, "is_last": True}

    async def run(*_: object, **__: object) -> object:
        return minute

    monkeypatch.setattr(Sandbox, "run", run)
    (tmp_path / "a").touch()
    stream = FakeStream()
    async with running(stream, FakeDetector(), tmp_path):
        stream.put("a", change=is_clip)
        await stream.wait_until_done(1)

    assert [frame.motion_significance for frame in detected(stream, 0).frames] == [0]


async def test_a_clip_that_waits_for_the_detector_is_left_alone_too(tmp_path: Path) -> None:
    make_clip(tmp_path / "a", empty_scene(30), container="mp4")
    make_clip(tmp_path / "b", empty_scene(2, size=(320, 180)), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.results[SIZE] = Unavailable("away", "DETECTOR_AWAY")

    async with running(stream, detector, tmp_path):
        stream.put("a", "b", change=is_clip)
        await until(lambda: len(detector.requested) > 2 * detector.photos_in_flight)
        stream.moved.add("a")
        await stream.wait_until_done(1)

    assert stream.order == [1]


async def test_a_stop_waits_for_no_clip(tmp_path: Path) -> None:
    """Its decoder ends, and nothing is published of it."""
    make_clip(tmp_path / "a", walker_scene(130), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.gates[SIZE] = asyncio.Event()  # never set

    async with asyncio.timeout(90):
        async with running(stream, detector, tmp_path) as decoders:
            stream.put("a", "a", change=is_clip)
            await until(lambda: detector.busy == detector.photos_in_flight)
            pids = decoders.pids

    assert pids
    assert not any(map(psutil.pid_exists, pids))
    assert stream.order == []


async def test_clips_that_belong_to_somebody_else_now_are_left_alone(tmp_path: Path) -> None:
    """Their partition has moved: the one in work ends, and those that wait are not begun."""
    make_clip(tmp_path / "a", empty_scene(30), container="mp4")
    make_clip(tmp_path / "b", empty_scene(2, size=(320, 180)), container="mp4")
    stream, detector = FakeStream(), FakeDetector()
    detector.gates[SIZE] = asyncio.Event()

    async with running(stream, detector, tmp_path):
        stream.put("a", "a", "a", "b", change=is_clip)
        await until(lambda: detector.busy == detector.photos_in_flight)
        stream.moved.add("a")
        detector.gates[SIZE].set()
        await stream.wait_until_done(1)

    assert stream.order == [3]
    assert detector.requested.count(SIZE) == detector.photos_in_flight
