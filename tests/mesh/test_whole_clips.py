"""What Lares makes of clips, from files and uploads to what people see: frames with boxes, an event with an
assessment, a clip that plays, and the clip and the preview of the event."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lares.ingest.v1.ingest_service_pb2 import UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from tests.support.clips import Picture, make_clip, walker_scene
from tests.support.lares import Lares, running_lares
from tests.support.rendered_clips import Seen, fetched, seen

SIZE, FPS, SECONDS = (640, 360), 10, 5
CHUNK = 2**20


@dataclass(frozen=True)
class Kind:
    """A container, the codec in it, and what GraphQL says of it."""

    suffix: str
    encoder: str
    codec: str
    container: str
    is_playable: bool = False


KINDS = (
    Kind("mp4", "libx264", "h264", "MP4", is_playable=True),
    Kind("mov", "libx265", "hevc", "QuickTime"),
    Kind("mkv", "libx264", "h264", "Matroska"),
    Kind("webm", "libvpx-vp9", "vp9", "WebM", is_playable=True),
    Kind("avi", "mpeg4", "mpeg4", "AVI"),
    Kind("ts", "libx264", "h264", "MPEG-TS"),
    Kind("3gp", "libx264", "h264", "3GP"),
)
# Of the uploaded clip: who walks there is in the middle of it.
UPLOADED_SECONDS, WALKS = 20, (9.0, 11.0)
ROLL_SECONDS = 3
CLOCKS_APART = timedelta(seconds=4)
SCENE_SECONDS, SNAPSHOT_AT = 6, 1.5

EVENTS = """query($camera: ID!) { events(first: 2, filter: {cameraIds: [$camera]}) { edges { node {
  id labels status closed startedAt endedAt clipUrl previewUrl
  assessment { score severity summary factors { points } }
  evidence { tracks { label detectionIds } }
  detections(first: 200) { edges { node { id } } }
  media { id kind durationSeconds codec container frameRate rotation hasAudio capturedAt
    url thumbnailUrl posterUrl playableUrl
    frames { index capturedAt width height url thumbnailUrl detections { label } } } } } } }"""


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lares]:
    """Clips of each kind have come into folders of their own, and one as an upload."""
    folder = tmp_path_factory.mktemp("clips")
    walk = list(walker_scene(SECONDS, fps=FPS, size=SIZE))
    for kind in KINDS:
        _make(folder / f"clip.{kind.suffix}", walk, kind.encoder)
    settings = {
        "LARES_EVENT_GAP_SECONDS": "6",
        "LARES_CLIP_PRE_ROLL_SECONDS": str(ROLL_SECONDS),
        "LARES_CLIP_POST_ROLL_SECONDS": str(ROLL_SECONDS),
    }
    async with running_lares(folder / "home", settings) as started:
        for kind in KINDS:
            drop(started, kind.suffix, folder / f"clip.{kind.suffix}", datetime.now(UTC))
        long = walker_scene(UPLOADED_SECONDS, fps=FPS, size=SIZE, walks=WALKS)
        await upload(started, "uploaded", make_clip(folder / "long.mp4", long, fps=FPS, gop=FPS))
        await started.idle()
        yield started


def _make(path: Path, pictures: list[Picture], encoder: str) -> None:
    make_clip(path, pictures, fps=FPS, codec=encoder, gop=FPS)


def drop(lares: Lares, camera: str, file: Path, finished: datetime) -> None:
    """Adds a file that its camera finished writing at this time."""
    folder = lares.cameras / camera
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{file.name}.part"
    partial.write_bytes(file.read_bytes())
    os.utime(partial, (finished.timestamp(), finished.timestamp()))
    partial.rename(folder / file.name)


async def upload(lares: Lares, camera: str, clip: Path) -> None:
    content = clip.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    header = UploadHeader(camera_id=camera, sha256=digest, size_bytes=len(content), file_name=clip.name)
    chunks = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    parts = [UploadMediaRequest(header=header), *(UploadMediaRequest(chunk=chunk) for chunk in chunks)]
    async with lares.grpc_channel() as channel:
        await IngestServiceStub(channel).UploadMedia(
            iter(parts), metadata=(("x-api-key", lares.key),), timeout=60
        )


async def only_event(lares: Lares, camera: str) -> dict[str, Any]:
    (edge,) = (await lares.graphql(EVENTS, camera=camera))["events"]["edges"]
    event: dict[str, Any] = edge["node"]
    return event


async def picture(lares: Lares, path: str) -> Picture:
    answer = await fetched(lares, path)
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as opened:
        return np.asarray(opened.convert("RGB"))


async def played(lares: Lares, path: str, folder: Path, content_type: str = "video/mp4") -> Seen:
    answer = await fetched(lares, path)
    assert answer.headers["content-type"] == content_type
    file = folder / "answer"
    file.write_bytes(answer.content)
    return await asyncio.to_thread(seen, file)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.suffix)
async def test_a_clip_of_each_container(lares: Lares, kind: Kind, tmp_path: Path) -> None:
    event = await only_event(lares, kind.suffix)
    assert (event["labels"], event["status"], event["closed"]) == (["person"], "ASSESSED", True)
    assert sum(factor["points"] for factor in event["assessment"]["factors"]) == event["assessment"]["score"]
    (clip,) = event["media"]
    said = {name: clip[name] for name in ("kind", "codec", "container", "rotation", "hasAudio")}
    assert said == {
        "kind": "CLIP",
        "codec": kind.codec,
        "container": kind.container,
        "rotation": 0,
        "hasAudio": False,
    }
    assert clip["durationSeconds"] == pytest.approx(SECONDS, abs=0.2)
    assert clip["frameRate"] == pytest.approx(FPS, abs=1)

    frames = clip["frames"]
    began = moment(clip["capturedAt"])
    assert frames[0]["index"] == 0
    assert len(frames) >= SECONDS
    for frame in frames:
        offset = moment(frame["capturedAt"]) - began
        assert offset == timedelta(milliseconds=frame["index"])
        assert (frame["width"], frame["height"]) == SIZE
    with_person = [frame for frame in frames if frame["detections"]]
    assert {one["label"] for frame in with_person for one in frame["detections"]} == {"person"}
    assert len(with_person) >= 3
    assert moment(event["startedAt"]) == moment(with_person[0]["capturedAt"])
    assert moment(event["endedAt"]) == moment(with_person[-1]["capturedAt"])

    shown = with_person[len(with_person) // 2]
    plain, boxed = await picture(lares, shown["url"]), await picture(lares, shown["thumbnailUrl"])
    assert plain.shape == boxed.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(plain.astype(int) - boxed).max() > 100  # the box
    poster = await picture(lares, clip["posterUrl"])
    shown_frames = [await picture(lares, frame["url"]) for frame in with_person]
    assert any(np.array_equal(poster, one) for one in shown_frames)

    assert (clip["playableUrl"] == clip["url"]) == kind.is_playable
    content_type = "video/webm" if kind.suffix == "webm" else "video/mp4"
    copy = await played(lares, clip["playableUrl"], tmp_path, content_type)
    assert copy.codec == (kind.codec if kind.is_playable else "h264")
    assert len(copy.times) == SECONDS * FPS
    assert copy.times[0] == pytest.approx(0, abs=0.05)

    cut = await played(lares, event["clipUrl"], tmp_path)
    assert (cut.codec, cut.size) == (kind.codec, SIZE)
    assert cut.times[0] == pytest.approx(0, abs=0.05)
    assert cut.times[-1] == pytest.approx(SECONDS, abs=0.2)
    preview = await fetched(lares, event["previewUrl"])
    assert preview.headers["content-type"] in ("image/webp", "image/gif")
    with Image.open(io.BytesIO(preview.content)) as animation:
        assert getattr(animation, "n_frames", 1) == len(with_person)
        assert animation.size == SIZE


async def test_the_clip_of_an_event_is_cut_around_it(lares: Lares, tmp_path: Path) -> None:
    event = await only_event(lares, "uploaded")
    assert event["labels"] == ["person"]
    (clip,) = event["media"]
    assert clip["durationSeconds"] == pytest.approx(UPLOADED_SECONDS, abs=0.2)
    began, ended = (
        (moment(event[name]) - moment(clip["capturedAt"])).total_seconds()
        for name in ("startedAt", "endedAt")
    )
    assert WALKS[0] - 0.5 <= began < ended <= WALKS[1] + 0.5
    cut = await played(lares, event["clipUrl"], tmp_path)
    assert cut.times[0] == pytest.approx(0, abs=0.05)
    wanted = ended - began + 2 * ROLL_SECONDS
    # It begins with a key frame, of which there is one in each second.
    assert wanted - 0.2 <= cut.times[-1] <= wanted + 1.2
    part = await lares.get(clip["url"], range="bytes=4-7")
    assert (part.status_code, part.content) == (206, b"ftyp")


async def test_a_snapshot_and_a_clip_of_one_scene_are_one_event_with_one_person(
    lares: Lares, tmp_path: Path
) -> None:
    """Whichever comes first, and whichever's clock is ahead of the other's."""
    scene = list(walker_scene(SCENE_SECONDS, fps=FPS, size=SIZE))
    clip, photo = make_clip(tmp_path / "clip.mp4", scene, fps=FPS), tmp_path / "snapshot.jpg"
    Image.fromarray(scene[round(SNAPSHOT_AT * FPS)]).save(photo, quality=92)
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    finished = began + timedelta(seconds=SCENE_SECONDS)
    taken = {
        "ahead": began + timedelta(seconds=SNAPSHOT_AT) + CLOCKS_APART,
        "behind": began + timedelta(seconds=SNAPSHOT_AT) - CLOCKS_APART,
    }
    for clips_first, others_first in (("clip", "photo"), ("photo", "clip")):
        for clock, taken_at in taken.items():
            drop(lares, f"{clips_first}-{clock}", clip, finished)
            drop(lares, f"{others_first}-{clock}", photo, taken_at)
        await lares.idle()
    for camera in (f"{first}-{clock}" for first in ("clip", "photo") for clock in taken):
        event = await only_event(lares, camera)
        assert sorted(media["kind"] for media in event["media"]) == ["CLIP", "PHOTO"], camera
        (track,) = event["evidence"]["tracks"]
        ids = [edge["node"]["id"] for edge in event["detections"]["edges"]]
        assert (track["label"], sorted(track["detectionIds"])) == ("person", sorted(ids)), camera
        assert event["assessment"]["summary"].startswith("One person "), camera
