"""What is kept, what is made twice, and what is not."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.http.thumbnail_cache import ThumbnailCache
from gateway.http.thumbnail_renderer import LabelledBox
from mesh.blobs import Blobs, FileBlobs
from mesh.problems import Invalid
from tests.support.blobs import keep_blob

CONTENT = b"a photo"
NAME = sha256(CONTENT).hexdigest()


class Drawing:
    def __init__(self, size: int = 10) -> None:
        self.made: list[list[LabelledBox]] = []
        self.size = size
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, path: str, boxes: list[LabelledBox], max_pixels: int) -> bytes:
        self.made.append(boxes)
        assert max_pixels == 7
        await self.gate.wait()
        assert Path(path).read_bytes() == CONTENT
        return bytes(self.size)


@pytest.fixture
async def blobs(tmp_path: Path) -> Blobs:
    blobs = FileBlobs(tmp_path)
    await keep_blob(blobs, CONTENT)
    return blobs


async def test_the_same_is_made_once_however_many_ask(blobs: Blobs) -> None:
    drawing = Drawing()
    drawing.gate.clear()
    thumbnails = ThumbnailCache(blobs, drawing, 7)
    asking = [asyncio.create_task(thumbnails.get("a", NAME, [])) for _ in range(5)]
    while not drawing.made:
        await asyncio.sleep(0.001)
    asking[0].cancel()  # who leaves does not take the others' picture along
    drawing.gate.set()
    assert await asyncio.gather(*asking[1:]) == [bytes(10)] * 4
    assert await thumbnails.get("a", NAME, []) == bytes(10)
    assert len(drawing.made) == 1


async def test_what_was_not_asked_for_longest_makes_room(blobs: Blobs) -> None:
    drawing = Drawing(size=40)
    thumbnails = ThumbnailCache(blobs, drawing, 7, max_bytes=100)
    for name in ("a", "b", "a", "c", "a", "b"):
        await thumbnails.get(name, NAME, [])
    assert len(drawing.made) == 4  # a, b, c, and b again


async def test_a_failure_is_not_kept(blobs: Blobs) -> None:
    answers: list[bytes | Exception] = [Invalid("no", "NOT_DRAWABLE"), b"picture"]

    async def draw(path: str, boxes: list[LabelledBox], max_pixels: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    thumbnails = ThumbnailCache(blobs, draw, 7)
    with pytest.raises(Invalid):
        await thumbnails.get("a", NAME, [])
    assert await thumbnails.get("a", NAME, []) == b"picture"
