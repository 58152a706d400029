"""Damaged and hostile clips: each ends in a rejection that says why, nothing hangs, and memory is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.damaged_clips import clip_without_frame_rate, damaged_clips
from tests.support.lares import Lares, running_lares
from tests.support.small_clips import small_clip

LONGEST_SECONDS = 10
# Of all processes that run Lares's own code, those that decode among them: twice what it is. What they share
# counts several times.
MAX_BYTES = 900 * 2**20
SAMPLE_SECONDS = 0.1
REJECTIONS = """query { rejections(first: 200) { edges { node { cameraId path reason } } } }"""
MEDIA = """query { mediaList(first: 200) { edges { node { camera { id } durationSeconds
  frames { index } } } } }"""


class Memory:
    """The most bytes that Lares's Python processes had resident at the same time."""

    def __init__(self, lares: Lares) -> None:
        assert lares.process is not None
        self._main = psutil.Process(lares.process.pid)
        self.most_bytes = 0

    async def watch(self) -> None:
        while True:
            self.most_bytes = max(self.most_bytes, await asyncio.to_thread(self._bytes))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _bytes(self) -> int:
        total = 0
        for process in [self._main, *self._main.children(recursive=True)]:
            try:
                if "python" in process.name():
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                pass
        return total


@asynccontextmanager
async def watched(lares: Lares) -> AsyncIterator[Memory]:
    memory = Memory(lares)
    watching = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        watching.cancel()


@pytest.mark.timeout(300)
async def test_each_ends_in_a_typed_rejection_within_a_bound_of_memory(tmp_path: Path) -> None:
    clips = damaged_clips(tmp_path, LONGEST_SECONDS)
    assert len(clips) >= 20
    settings = {"LARES_CLIP_MAX_SECONDS": str(LONGEST_SECONDS)}
    async with running_lares(tmp_path / "home", settings) as lares:
        folder = lares.cameras / "door"
        folder.mkdir(parents=True)
        async with watched(lares) as memory:
            for clip in clips:
                (folder / clip.name).write_bytes(clip.content)
            (folder / "no-frame-rate.mp4").write_bytes(clip_without_frame_rate())
            (folder / "whole.mp4").write_bytes(small_clip("mp4"))
            await lares.until_stored(2)
            await lares.idle(150)
        edges = (await lares.graphql(REJECTIONS))["rejections"]["edges"]
        found = {edge["node"]["path"].removeprefix("door/"): edge["node"]["reason"] for edge in edges}
        assert found.keys() == {clip.name for clip in clips}
        wrong = {clip.name: found[clip.name] for clip in clips if found[clip.name] not in clip.reasons}
        assert wrong == {}
        taken = [edge["node"] for edge in (await lares.graphql(MEDIA))["mediaList"]["edges"]]
        assert len(taken) == 2
        assert all(media["frames"] for media in taken)
        assert 50 * 2**20 < memory.most_bytes < MAX_BYTES, f"{memory.most_bytes / 2**20:.0f} MiB"
