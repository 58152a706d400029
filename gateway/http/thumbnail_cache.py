"""Renders thumbnails when they are requested and keeps recent ones in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from mesh.blobs import Blobs
from mesh.boxes import LabelledBox
from mesh.problems import Invalid, NotFound

MAX_BYTES = 24 * 2**20

# The path or the content of the picture, the boxes to draw, and the most pixels that the picture may have.
Render = Callable[[str | bytes, list[LabelledBox], int], Awaitable[bytes]]


class PictureSource(NamedTuple):
    """A blob that is a picture, or a picture in one: `size` bytes from `offset`."""

    sha256: str
    offset: int = 0
    size: int | None = None


class ThumbnailCache:
    """`render` renders a thumbnail in another process. Concurrent requests for one thumbnail render it
    once."""

    def __init__(self, blobs: Blobs, render: Render, max_pixels: int, max_bytes: int = MAX_BYTES) -> None:
        self._blobs, self._render, self._max_pixels = blobs, render, max_pixels
        self._cached: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._rendering: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, name: str, picture: PictureSource, boxes: list[LabelledBox]) -> bytes:
        """`name` must identify everything that the thumbnail depends on. Raises NotFound if the picture does
        not exist, and what the renderer raises."""
        cached = self._cached.get(name)
        if cached is not None:
            return cached
        task = self._rendering.get(name)
        if task is None:
            task = self._rendering[name] = asyncio.create_task(self._make(name, picture, boxes))
            task.add_done_callback(partial(self._done, name))
        return await asyncio.shield(task)

    def _done(self, name: str, task: "asyncio.Task[bytes]") -> None:
        del self._rendering[name]
        if not task.cancelled():
            task.exception()  # marks it as retrieved, in case every client has disconnected

    async def _make(self, name: str, picture: PictureSource, boxes: list[LabelledBox]) -> bytes:
        try:
            thumbnail = await self._render_from(picture, boxes)
        except Invalid as problem:
            if problem.reason == "BLOB_NOT_FOUND":
                raise NotFound(problem.message, problem.reason) from None
            raise
        if len(thumbnail) <= self._cached.maxsize:
            self._cached[name] = thumbnail
        return thumbnail

    async def _render_from(self, picture: PictureSource, boxes: list[LabelledBox]) -> bytes:
        if picture.size is None:
            # Passes a path instead of bytes, so that originals waiting to be rendered take no memory here.
            async with self._blobs.local(picture.sha256) as path:
                return await self._render(str(path), boxes, self._max_pixels)
        end = picture.offset + picture.size
        pieces = [piece async for piece in self._blobs.open_range(picture.sha256, picture.offset, end)]
        return await self._render(b"".join(pieces), boxes, self._max_pixels)
