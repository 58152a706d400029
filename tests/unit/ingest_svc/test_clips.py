"""Clips in the cameras folder and as uploads: what is taken in, when it was taken, and what is rejected."""

import asyncio
import os
import re
import struct
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ingest_svc import clip_probing, file_importer
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.facts import SourceCamera
from ingest_svc.fingerprint import fingerprint
from ingest_svc.formats.clip_container import ClipContainer
from ingest_svc.watching.completion import Moment, state_of
from lares.ingest.v1.media_pb2 import CapturedAtSource, Media, MediaType
from mesh.problems import Invalid
from tests.support.blobs import content_of
from tests.support.clips import make_clip
from tests.support.damaged_clips import box, sound_only
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.small_clips import KINDS, OPEN_ENDED, SECONDS, SIZE, moving_square, small_clip
from tests.support.waiting import until
from tests.unit.ingest_svc.test_uploads import parts, serving, upload

LENGTH = timedelta(seconds=SECONDS)


@pytest.fixture(autouse=True)
def short_wait_for_clips_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.file_importer.OPEN_ENDED_SECONDS", 0.5)


def at(media: Media) -> datetime:
    return media.captured_at.ToDatetime(UTC)


def source(media: Media) -> str:
    return CapturedAtSource.Name(media.captured_at_source).removeprefix("CAPTURED_AT_SOURCE_")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_container_is_taken_in_by_its_content(harness: IngestHarness, kind: str) -> None:
    content = small_clip(kind)
    async with harness.running():
        harness.drop("door/clip.jpg", content)
        await until(lambda: harness.bus.media or harness.bus.rejections)
        await until(lambda: harness.idle)
    assert harness.rejected == {}
    (media,) = harness.bus.media
    assert media.type == MediaType.Value(f"MEDIA_TYPE_{KINDS[kind]}")
    assert (media.width, media.height) == SIZE
    assert media.clip.video_codec == {"webm": "vp9", "avi": "mpeg4"}.get(kind, "h264")
    assert abs(media.clip.duration.ToTimedelta() - LENGTH) <= timedelta(seconds=0.3)
    assert (media.clip.frame_rate, media.clip.rotation, media.clip.has_audio) == (10, 0, False)
    assert await content_of(harness.blobs, media.sha256) == content
    assert at(media) + media.clip.duration.ToTimedelta() <= media.ingested_at.ToDatetime(UTC)


async def test_rotation_and_sound_are_told(harness: IngestHarness) -> None:
    async with harness.running():
        harness.drop("door/a", small_clip("mp4", audio=True, rotation=90))
        await until(lambda: harness.bus.media)
    (media,) = harness.bus.media
    assert (media.clip.rotation, media.clip.has_audio) == (90, True)
    assert (media.width, media.height) == SIZE


async def test_when_a_clip_was_taken(harness: IngestHarness) -> None:
    """The clips state 2026-06-01 12:00 UTC in their container."""
    now = int(time.time())
    begun = datetime.fromtimestamp(now - 60, UTC)
    name = f"door/x_{begun:%Y%m%d_%H%M%S}.mp4"
    named_ahead = f"door/y_{begun + timedelta(hours=2):%Y%m%d_%H%M%S}.avi"  # another zone
    stated = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
    local = datetime(2026, 6, 1, 10, tzinfo=UTC).timestamp()
    harness.cameras.configure("berlin", time_zone="Europe/Berlin")
    async with harness.running():
        harness.drop(name, small_clip("mp4"), now)
        harness.drop(named_ahead, small_clip("avi"), now)
        harness.drop("utc/c.mp4", small_clip("mp4"), stated + SECONDS)
        harness.drop("utc/d.mov", small_clip("mov"), stated)  # the time at which it ended
        harness.drop("berlin/e.mp4", small_clip("mp4"), local + SECONDS)
        await until(lambda: len(harness.bus.media) == 5)
    found = {media.file.path: (source(media), at(media).timestamp()) for media in harness.bus.media}
    assert found[name] == ("FILE_NAME", now - 60)
    assert found[named_ahead] == ("MTIME_LESS_DURATION", now - SECONDS)
    assert found["utc/c.mp4"] == ("CONTAINER", stated)
    assert found["utc/d.mov"] == ("CONTAINER", stated - SECONDS)
    assert found["berlin/e.mp4"] == ("CONTAINER_LOCAL", local)


async def test_photos_learn_the_time_in_their_name(harness: IngestHarness) -> None:
    harness.cameras.configure("berlin", time_zone="Europe/Berlin")
    written = datetime(2026, 7, 1, 10, 0, 8, tzinfo=UTC).timestamp()
    async with harness.running():
        harness.drop("berlin/2026-07-01/001/jpg/12/00/03[M][0@0][0].jpg", jpeg("a"), written)
        await until(lambda: harness.bus.media)
    (media,) = harness.bus.media
    assert (source(media), at(media)) == ("FILE_NAME", datetime(2026, 7, 1, 10, 0, 3, tzinfo=UTC))


def pieces(content: bytes, kind: str) -> list[bytes]:
    """Four of them; what was written by then could be a whole stream if there are such places."""
    marks = {"mp4, fragments": (b"moof", 4), "mkv, live": (b"\x1f\x43\xb6\x75", 0)}
    if kind in marks:
        mark, before = marks[kind]
        places = [found.start() - before for found in re.finditer(re.escape(mark), content)]
    else:
        places = list(range(0, len(content), 188))
    cuts = [0, *(places[max(1, len(places) * part // 4)] for part in (1, 2, 3)), len(content)]
    return [content[start:end] for start, end in pairwise(cuts)]


@pytest.mark.parametrize("kind", ["mp4", "mp4, index first", "mp4, fragments", "mkv", "mkv, live", "ts"])
@pytest.mark.parametrize("polling", [False, True], ids=["native", "polling"])
async def test_a_clip_is_not_taken_between_two_writes(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, kind: str, polling: bool
) -> None:
    """It is written over a share, whose server opens it anew for each piece, and rests longer than any file
    has to be unchanged."""
    monkeypatch.setattr(file_importer, "UNFINISHED_SECONDS", 4.0)
    monkeypatch.setattr(file_importer, "OPEN_ENDED_SECONDS", 2.0)
    harness.settings |= {
        "ingest_settle_seconds": 0.05,
        "ingest_polling": polling,
        "ingest_poll_seconds": 0.1,
    }
    content, path = small_clip(kind), harness.root / "door" / "clip"
    path.parent.mkdir()
    async with harness.running():
        for piece in pieces(content, kind):
            with path.open("ab") as file:
                file.write(piece)
            await asyncio.sleep(0.4)
        await until(lambda: harness.bus.media or harness.bus.rejections)
        await until(lambda: harness.idle)
    assert harness.rejected == {}
    (media,) = harness.bus.media
    assert await content_of(harness.blobs, media.sha256) == content


async def test_an_abandoned_clip_is_rejected_and_taken_when_it_is_completed_later(
    harness: IngestHarness,
) -> None:
    content = small_clip("mp4")
    async with harness.running():
        path = harness.drop("door/clip.mp4", content[:-100])
        await until(lambda: harness.bus.rejections)
        assert harness.rejected == {"door/clip.mp4": "TRUNCATED"}
        with path.open("ab") as file:
            file.write(content[-100:])
        await until(lambda: harness.bus.media)
    assert await content_of(harness.blobs, harness.bus.media[0].sha256) == content


async def test_names_that_are_used_again_placeholders_and_renames(harness: IngestHarness) -> None:
    first, second = small_clip("mp4"), small_clip("mp4, index first")
    async with harness.running():
        harness.drop("door/live.mp4", first)
        await until(lambda: len(harness.bus.media) == 1)
        harness.drop("door/live.mp4", second)
        await until(lambda: len(harness.bus.media) == 2)
        placeholder = harness.root / "door" / "placeholder.mp4"
        placeholder.touch()
        placeholder.write_bytes(small_clip("mov"))
        unfinished = harness.root / "door" / "clip.mkv.tmp"
        unfinished.write_bytes(small_clip("mkv")[:1000])
        with unfinished.open("ab") as file:
            file.write(small_clip("mkv")[1000:])
        unfinished.rename(harness.root / "door" / "clip.mkv")
        await until(lambda: len(harness.bus.media) == 4)
        await until(lambda: harness.idle)
    assert sorted(harness.paths[2:]) == ["door/clip.mkv", "door/placeholder.mp4"]
    assert harness.rejected == {}


def sized(content: bytes, kind: bytes, size: int) -> bytes:
    """The MP4 with another length of the first part of this kind."""
    at = content.index(kind) - 4
    return content[:at] + struct.pack(">I", size) + content[at + 4 :]


async def test_each_damaged_clip_ends_in_a_typed_rejection(harness: IngestHarness, tmp_path: Path) -> None:
    mp4, first, mkv, avi = (small_clip(kind) for kind in ("mp4", "mp4, index first", "mkv", "avi"))
    cut = {
        f"door/{name}-{tenth}": content[: len(content) * tenth // 10]
        for name, content in (("mp4", mp4), ("first", first), ("mkv", mkv), ("avi", avi))
        for tenth in range(1, 10)
    }
    index = first.index(b"moov") + 4
    bomb = make_clip(tmp_path / "bomb.mp4", moving_square(0.2, size=(1600, 1200)), fps=10)
    traks = box(b"trak") * 100_000
    tracks = box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", traks) + box(b"mdat", bytes(100))
    others = {
        "door/index": (first[:index] + os.urandom(200) + first[index + 200 :], {"CORRUPT", "NO_PICTURE"}),
        "door/absurd": (sized(first, b"stsz", 2**31 - 1), {"CORRUPT", "NO_PICTURE"}),
        "door/zero": (sized(first, b"moov", 0), {"TRUNCATED"}),
        "door/pictures": (
            first[: first.index(b"mdat") + 4] + bytes(len(first) - first.index(b"mdat") - 4),
            {"NO_PICTURE"},
        ),
        "door/silent": (sound_only(tmp_path / "silent.mp4"), {"NO_PICTURE"}),
        "door/streams": (tracks, {"NO_PICTURE", "CORRUPT"}),
        "door/bomb": (bomb.read_bytes(), {"TOO_MANY_PIXELS"}),
        "door/noise": (mkv[:60] + os.urandom(len(mkv) - 60), {"CORRUPT", "NO_PICTURE", "TRUNCATED"}),
        "door/text": (b"\x00\x00\x00\x18ftypisom" + b"hello " * 100, {"CORRUPT", "TRUNCATED"}),
    }
    harness.settings["ingest_max_pixels"] = 1_000_000
    async with harness.running():
        for path, content in (cut | {path: content for path, (content, _) in others.items()}).items():
            harness.drop(path, content)
        await until(lambda: len(harness.bus.rejections) + len(harness.bus.media) == len(cut) + len(others))
    assert harness.paths == []
    assert {path: reason for path, reason in harness.rejected.items() if path in cut} == dict.fromkeys(
        cut, "TRUNCATED"
    )
    for path, (_, reasons) in others.items():
        assert harness.rejected[path] in reasons, path


async def test_a_clip_that_is_too_long_is_rejected(harness: IngestHarness) -> None:
    harness.settings["clip_max_seconds"] = 3
    async with harness.running():
        harness.drop("door/long.mp4", small_clip("mp4"))
        await until(lambda: harness.bus.rejections)
    assert harness.rejected == {"door/long.mp4": "TOO_LONG"}


async def test_without_the_packages_clips_are_refused(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_svc.service.clips_are_installed", lambda: False)
    async with harness.running():
        harness.drop("door/clip.mp4", small_clip("mp4"))
        harness.drop("door/photo.jpg", jpeg())
        await until(lambda: harness.bus.rejections and harness.bus.media)
    assert harness.rejected == {"door/clip.mp4": "CLIPS_NOT_INSTALLED"}
    assert "lares[clips]" in harness.bus.rejections[0].detail


async def test_a_child_that_crashes_or_hangs_rejects_the_clip_and_nothing_else(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_probing, "TARGET", "tests.support.clip_children:fail")
    monkeypatch.setattr(clip_probing, "SECONDS", 1.0)
    async with harness.running():
        for how, kind in (("crash", "mp4"), ("hang", "mov"), ("raise", "mkv"), ("lie", "avi")):
            harness.drop(f"door/{how}", small_clip(kind) + how.encode())
        harness.drop("door/photo.jpg", jpeg())
        await until(lambda: len(harness.bus.rejections) == 4 and harness.bus.media)
    assert set(harness.rejected.values()) == {"CORRUPT"}


async def test_uploads_take_clips(harness: IngestHarness) -> None:
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    async with serving(harness) as stub:
        await upload(stub, parts(small_clip("mp4"), file_name=f"a/{begun:%Y-%m-%dT%H-%M-%S}Z.mp4"))
        await upload(stub, parts(small_clip("avi")))
        with pytest.raises(Invalid) as raised:
            await upload(stub, parts(small_clip("mkv")[:-1]))
        assert raised.value.reason == "TRUNCATED"
        await upload(stub, parts(small_clip("ts")))
    named, arrived, _ = harness.bus.media
    assert (source(named), at(named)) == ("FILE_NAME", begun)
    assert source(arrived) == "MTIME_LESS_DURATION"
    assert arrived.captured_at.ToDatetime(UTC) + LENGTH <= arrived.ingested_at.ToDatetime(UTC)
    assert [media.type for media in harness.bus.media] == [
        MediaType.Value(f"MEDIA_TYPE_{container}")
        for container in (ClipContainer.MP4, ClipContainer.AVI, ClipContainer.MPEG_TS)
    ]


async def test_taken_originals_of_clips_are_removed_after_a_kill_too(harness: IngestHarness) -> None:
    harness.settings["ingest_originals"] = "take"
    async with harness.running():
        clip = harness.drop("door/clip.mp4", small_clip("mp4"))
        await until(lambda: harness.bus.media and not clip.exists())
    harness.drop("door/again.mp4", small_clip("mp4"))
    harness.known_files.add(harness.root, "door/again.mp4")
    async with harness.running():
        await until(lambda: not (harness.root / "door" / "again.mp4").exists())


def test_every_kind_is_tried() -> None:
    assert set(KINDS.values()) == set(ClipContainer)
    assert set(OPEN_ENDED) < set(KINDS)


async def test_no_clip_is_taken_between_two_writes_of_a_file_that_is_overwritten_all_the_time(
    harness: IngestHarness,
) -> None:
    harness.cameras.configure("door", enabled=False)  # so that the worker leaves the file alone
    async with harness.running() as ingest:
        harness.drop("door/clip", small_clip("mp4"))
        file = fingerprint(CamerasRoot(harness.root), "door/clip")
        assert file is not None
        importer, camera = ingest.worker._importer, SourceCamera("door", "door", UTC)
        assert await importer.run(file, camera, Moment(state_of(file), pause=0.2)) is None
        assert await importer.run(file, camera) is not None
