"""Which thumbnails are cached and which are rendered again."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.http.thumbnail_cache import PictureSource, ThumbnailCache
from mesh.blobs import Blobs, FileBlobs
from mesh.boxes import LabelledBox
from mesh.problems import Invalid
from tests.support.blobs import keep_blob

CONTENT = b"a photo"
PICTURE = PictureSource(sha256(CONTENT).hexdigest())


class CountingRenderer:
    def __init__(self, size: int = 10) -> None:
        self.made: list[list[LabelledBox]] = []
        self.size = size
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, picture: str | bytes, boxes: list[LabelledBox], max_pixels: int) -> bytes:
        self.made.append(boxes)
        assert max_pixels == 7
        await self.gate.wait()
        assert Path(str(picture)).read_bytes() == CONTENT
        return bytes(self.size)


@pytest.fixture
async def blobs(tmp_path: Path) -> Blobs:
    blobs = FileBlobs(tmp_path)
    await keep_blob(blobs, CONTENT)
    return blobs


async def test_concurrent_requests_render_once(blobs: Blobs) -> None:
    renderer = CountingRenderer()
    renderer.gate.clear()
    thumbnails = ThumbnailCache(blobs, renderer, 7)
    requests = [asyncio.create_task(thumbnails.get("a", PICTURE, [])) for _ in range(5)]
    while not renderer.made:
        await asyncio.sleep(0.001)
    requests[0].cancel()  # a client that disconnects does not cancel the others' request
    renderer.gate.set()
    assert await asyncio.gather(*requests[1:]) == [bytes(10)] * 4
    assert await thumbnails.get("a", PICTURE, []) == bytes(10)
    assert len(renderer.made) == 1


async def test_the_least_recently_used_thumbnail_is_evicted(blobs: Blobs) -> None:
    renderer = CountingRenderer(size=40)
    thumbnails = ThumbnailCache(blobs, renderer, 7, max_bytes=100)
    for name in ("a", "b", "a", "c", "a", "b"):
        await thumbnails.get(name, PICTURE, [])
    assert len(renderer.made) == 4  # a, b, c, and b again


async def test_a_failure_is_not_cached(blobs: Blobs) -> None:
    answers: list[bytes | Exception] = [Invalid("no", "NOT_DRAWABLE"), b"picture"]

    async def draw(picture: str | bytes, boxes: list[LabelledBox], max_pixels: int) -> bytes:
        response = answers.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    thumbnails = ThumbnailCache(blobs, draw, 7)
    with pytest.raises(Invalid):
        await thumbnails.get("a", PICTURE, [])
    assert await thumbnails.get("a", PICTURE, []) == b"picture"
