"""The media worker, with real clips, real blobs and real children."""

import io
import os
import signal
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from PIL import Image

from detect_svc.rendering import worker as module
from lares.ingest.v1.media_pb2 import MEDIA_TYPE_AVI, MEDIA_TYPE_JPEG, MEDIA_TYPE_MATROSKA
from lares.store.v1 import rendition_pb2 as rendition
from mesh.identity import render_failure_id
from mesh.problems import Unavailable
from mesh.processes.sandbox import Sandbox
from mesh.retry import Backoff
from tests.support.clips import make_clip, walker_scene
from tests.support.photos import people
from tests.support.render_worker import CAMERA, NOW, RenderWorkerBench, open_render_worker
from tests.support.rendered_clips import seen
from tests.support.waiting import until

FRAMES = rendition.RENDITION_KIND_FRAMES
PLAYABLE = rendition.RENDITION_KIND_PLAYABLE
EVENT_CLIP = rendition.RENDITION_KIND_EVENT_CLIP
EVENT_PREVIEW = rendition.RENDITION_KIND_EVENT_PREVIEW


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RenderWorkerBench]:
    monkeypatch.setattr("mesh.job_client.RELEASE_SECONDS", 90.0)
    monkeypatch.setattr(Backoff, "pause", lambda *_: 0.0)
    async with open_render_worker(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "a.mkv", walker_scene(6), audio=True)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes some seconds to encode."""
    path = tmp_path_factory.mktemp("clip") / "long.avi"
    return make_clip(path, walker_scene(60, size=(1280, 720)), codec="mjpeg")


async def test_each_kind_is_made_and_published(bench: RenderWorkerBench, clip: Path) -> None:
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0, 2000, 4000], 6)
    photo = await bench.source(people()[0], MEDIA_TYPE_JPEG, [0])
    leases = [
        bench.due(FRAMES, source),
        bench.due(PLAYABLE, source),
        bench.due(EVENT_CLIP, source, photo, start=3, end=5),
        bench.due(EVENT_PREVIEW, source, photo),
    ]
    async with bench.running():
        await until(lambda: len(bench.log.facts) == 4)
    made = {fact.rendition_id: fact for fact in bench.log.facts}  # two at a time
    facts = [made[lease.subject_id] for lease in leases]
    assert {fact.camera_id for fact in facts} == {CAMERA}
    assert {fact.rendered_at.ToDatetime(NOW.tzinfo) for fact in facts} == {NOW}
    types = [fact.blob.content_type for fact in facts]
    assert types == ["image/jpeg", "video/mp4", "video/mp4", "image/webp"]
    parts = facts[0].blob.parts
    assert [part.frame for part in parts] == [0, 2000, 4000]
    content = bench.content(facts[0])
    for part in parts:
        picture = Image.open(io.BytesIO(content[part.offset : part.offset + part.size_bytes]))
        assert (picture.format, picture.size) == ("JPEG", (640, 360))
    assert not any(fact.blob.parts for fact in facts[1:])
    assert seen(bench.path(facts[1].blob.sha256)).times[-1] == pytest.approx(5.9, abs=0.01)
    assert seen(bench.path(facts[2].blob.sha256)).times[-1] == pytest.approx(3, abs=0.11)  # from 2.0 s on
    assert bench.store.asked[0] == module.AT_ONCE
    assert set(bench.store.asked) <= {1, module.AT_ONCE}
    assert bench.store.released == []


async def test_the_same_input_gives_the_same_blob(bench: RenderWorkerBench, clip: Path) -> None:
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0, 4000], 6)
    kinds = [FRAMES, PLAYABLE, EVENT_CLIP, EVENT_PREVIEW] * 2
    leases = [bench.due(kind, source, start=1, end=4) for kind in kinds]
    async with bench.running():
        await until(lambda: len(bench.log.facts) == 8)
    made = {fact.rendition_id: fact.blob.sha256 for fact in bench.log.facts}
    names = [made[lease.subject_id] for lease in leases]
    assert names[:4] == names[4:]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("garbage", FRAMES, "CORRUPT"),
        ("garbage", PLAYABLE, "CORRUPT"),
        ("mjpeg", EVENT_CLIP, "NOT_CUTTABLE"),
        ("photo", EVENT_CLIP, "NOTHING_TO_RENDER"),
    ],
)
async def test_what_can_never_be_made_is_a_permanent_failure(
    bench: RenderWorkerBench, tmp_path: Path, name: str, kind: rendition.RenditionKind.ValueType, reason: str
) -> None:
    path, media_type = tmp_path / "source", MEDIA_TYPE_AVI
    if name == "garbage":
        path.write_bytes(b"neither photo nor clip " * 200)
    elif name == "mjpeg":
        path = make_clip(tmp_path / "a.avi", walker_scene(1), codec="mjpeg")
    else:
        path, media_type = people()[0], MEDIA_TYPE_JPEG
    lease = bench.due(kind, await bench.source(path, media_type, [0]), end=5, attempt=2)
    before = bench.stored()
    async with bench.running():
        await until(lambda: bench.log.facts)
    failure = bench.log.facts[0].failure
    assert (failure.reason, failure.permanent) == (reason, True)
    assert failure.id == render_failure_id(lease.lease_id, 2)
    assert failure.detail
    assert bench.stored() == before


async def test_without_the_package_for_clips_only_photos_are_rendered(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "av" else find_spec(name))
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    photo = await bench.source(people()[0], MEDIA_TYPE_JPEG, [0])
    for kind in (FRAMES, PLAYABLE, EVENT_CLIP, EVENT_PREVIEW):
        bench.due(kind, photo, source, end=3)
    bench.due(EVENT_PREVIEW, photo)
    async with bench.running():
        await until(lambda: len(bench.log.facts) == 5)
    *refused, made = bench.log.facts
    assert {(fact.failure.reason, fact.failure.permanent) for fact in refused} == {
        ("CLIPS_NOT_INSTALLED", True)
    }
    assert made.blob.content_type == "image/webp"


async def test_an_original_that_is_gone_is_a_permanent_failure(bench: RenderWorkerBench, clip: Path) -> None:
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    bench.path(source.media.sha256).unlink()
    photo = await bench.source(people()[0], MEDIA_TYPE_JPEG, [0])
    bench.due(FRAMES, source)
    bench.due(EVENT_PREVIEW, source, photo)  # of the rest there is a preview
    async with bench.running():
        await until(lambda: len(bench.log.facts) == 2)
    gone, made = bench.log.facts
    assert (gone.failure.reason, gone.failure.permanent) == ("BLOB_NOT_FOUND", True)
    assert made.HasField("blob")


async def test_blobs_that_are_away_are_no_attempt(bench: RenderWorkerBench, clip: Path) -> None:
    lease = bench.due(FRAMES, await bench.source(clip, MEDIA_TYPE_MATROSKA, [0]))
    folder = bench.folder / "blobs"
    folder.rename(bench.folder / "away")
    async with bench.running():
        await until(lambda: lease.lease_id in bench.store.released)
        assert bench.log.facts == []
        (bench.folder / "away").rename(folder)
        bench.store.queue.put_nowait(lease)
        await until(lambda: bench.log.facts)
    assert bench.log.facts[0].HasField("blob")


async def test_an_original_that_is_away_for_a_moment_is_no_attempt(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child does not find it, and it is there again afterwards."""
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    path, run = bench.path(source.media.sha256), Sandbox.run

    async def while_away(*args: object, **options: object) -> object:
        path.rename(path.with_suffix(".away"))
        try:
            return await run(*args, **options)  # type: ignore[arg-type]
        finally:
            path.with_suffix(".away").rename(path)

    monkeypatch.setattr(Sandbox, "run", while_away)
    lease = bench.due(FRAMES, source)
    async with bench.running():
        await until(lambda: lease.lease_id in bench.store.released)
    assert bench.log.facts == []


async def test_a_full_disk_is_no_attempt(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])

    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.blobs, "_store", full)
    lease, before = bench.due(FRAMES, source), bench.stored()
    async with bench.running():
        await until(lambda: lease.lease_id in bench.store.released)
    assert bench.log.facts == []
    assert bench.stored() == before


async def test_a_log_that_is_away_is_no_attempt(bench: RenderWorkerBench, clip: Path) -> None:
    bench.log.problem = Unavailable("Kafka does not answer", "KAFKA_NOT_READY")
    lease = bench.due(FRAMES, await bench.source(clip, MEDIA_TYPE_MATROSKA, [0]))
    async with bench.running():
        await until(lambda: bench.log.tries)
        bench.log.problem = None
        bench.store.queue.put_nowait(lease)
        await until(lambda: bench.log.facts)
    assert bench.log.tries == 2
    assert bench.store.released == []  # the fact may be on the log: the lease is left to expire


async def test_a_rendition_that_takes_too_long_is_not_given_up(
    bench: RenderWorkerBench, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BASE_SECONDS", 0.5)
    monkeypatch.setitem(module.TIMES, PLAYABLE, 0)
    source, before = await bench.source(long_clip, MEDIA_TYPE_AVI, seconds=60), bench.stored()
    bench.due(PLAYABLE, source)
    async with bench.running():
        await until(lambda: bench.log.facts)
    failure = bench.log.facts[0].failure
    assert (failure.reason, failure.permanent) == ("TOO_SLOW", False)
    assert bench.stored() - {source.media.sha256} == before - {source.media.sha256}


async def test_too_large_a_rendition_is_a_permanent_failure(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0, 2000, 4000])
    for kind in (FRAMES, PLAYABLE, EVENT_CLIP):
        bench.due(kind, source, end=6)
    async with bench.running():
        await until(lambda: len(bench.log.facts) == 3)
    assert {(fact.failure.reason, fact.failure.permanent) for fact in bench.log.facts} == {
        ("TOO_LARGE", True)
    }


def renderers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "sandbox_child" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


async def test_progress_is_told_and_the_lease_renewed(
    bench: RenderWorkerBench, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = bench.due(PLAYABLE, await bench.source(long_clip, MEDIA_TYPE_AVI, seconds=60))
    async with bench.running():
        await until(lambda: len(set(bench.store.progress)) >= 3)
        assert set(bench.store.renewed) == {lease.lease_id}
    told = bench.store.progress
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1
    assert bench.store.released == [lease.lease_id]
    assert bench.log.facts == []
    assert renderers() == []


async def test_a_long_copy_keeps_no_picture_waiting(
    bench: RenderWorkerBench, long_clip: Path, clip: Path
) -> None:
    bench.due(PLAYABLE, await bench.source(long_clip, MEDIA_TYPE_AVI, seconds=60))
    frames = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    async with bench.running():
        await until(lambda: bool(bench.store.progress))
        (copying,) = renderers()
        copying.suspend()  # however long it takes
        bench.due(FRAMES, frames)
        await until(lambda: bench.log.facts)
        copying.resume()
    assert [fact.blob.content_type for fact in bench.log.facts] == ["image/jpeg"]


async def test_a_lost_lease_ends_the_child_and_leaves_nothing(
    bench: RenderWorkerBench, long_clip: Path, clip: Path
) -> None:
    source = await bench.source(long_clip, MEDIA_TYPE_AVI, seconds=60)
    other = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    before = bench.stored()
    lost = bench.due(PLAYABLE, source)
    async with bench.running():
        await until(lambda: bool(bench.store.progress))
        bench.store.lost.add(lost.lease_id)
        await until(lambda: not renderers())
        await until(lambda: bench.stored() == before)
        bench.due(FRAMES, other)
        await until(lambda: bench.log.facts)
    assert [fact.blob.content_type for fact in bench.log.facts] == ["image/jpeg"]


async def test_a_child_that_is_killed_begins_again_and_nothing_half_is_published(
    bench: RenderWorkerBench, long_clip: Path, clip: Path
) -> None:
    bench.due(PLAYABLE, await bench.source(long_clip, MEDIA_TYPE_AVI, seconds=60))
    async with bench.running():
        await until(lambda: bool(bench.store.progress))
        (child,) = renderers()
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: bool(bench.log.facts))
    look = seen(bench.path(bench.log.facts[0].blob.sha256))
    assert len(look.times) == 600
    assert bench.stored() >= {bench.log.facts[0].blob.sha256}


async def test_a_clip_that_kills_every_child_is_given_up(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENDERER", "tests.support.sandboxed:crash")
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    before = bench.stored()
    bench.due(FRAMES, source)
    async with bench.running():
        await until(lambda: bench.log.facts)
    failure = bench.log.facts[0].failure
    assert (failure.reason, failure.permanent) == ("CHILD_CRASHED", True)
    assert bench.stored() == before


@pytest.mark.parametrize(
    "parts",
    [
        [[7, 0, 1]],
        [[0, 0, 10**9]],
        [[0, -1, 1]],
        [[0, 0, 0]],
        [["a", 0, 1]],
        [[0, 0]],
        [[0, 0, 1]] * 100_000,
        5,
        {"a": 1},
    ],
)
async def test_parts_that_there_cannot_be_are_not_published(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch, parts: object
) -> None:
    """The child may be under foreign control."""

    async def forged(_: Sandbox, order: object, output: int, *__: object, **___: object) -> object:
        os.pwrite(output, bytes(100), 0)
        return parts

    monkeypatch.setattr(Sandbox, "run", forged)
    source = await bench.source(clip, MEDIA_TYPE_MATROSKA, [0])
    before = bench.stored()
    bench.due(FRAMES, source)
    async with bench.running():
        await until(lambda: bench.log.facts)
    failure = bench.log.facts[0].failure
    assert (failure.reason, failure.permanent) == ("CHILD_FAILED", False)
    assert bench.stored() == before


async def test_the_child_is_confined(
    bench: RenderWorkerBench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the worker's own options: no network, no other file, little memory, low priority."""
    monkeypatch.setattr(module, "RENDERER", "tests.support.sandboxed:what_a_renderer_may")
    bench.due(FRAMES, await bench.source(clip, MEDIA_TYPE_MATROSKA, [0]))
    async with bench.running():
        await until(lambda: bench.log.facts)
    # The target refuses its input, with what it found as the message.
    assert bench.log.facts[0].failure.detail == "connect: EPERM, write: EPERM, memory: refused, nice: 10"
