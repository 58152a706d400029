"""Renders thumbnails when they are requested and keeps recent ones in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from cachetools import LRUCache

from mesh.blobs import Blobs
from mesh.boxes import LabelledBox
from mesh.problems import Invalid, NotFound

MAX_BYTES = 24 * 2**20

# The path of the original, the boxes to draw, and the most pixels that the original may have.
Render = Callable[[str, list[LabelledBox], int], Awaitable[bytes]]


class ThumbnailCache:
    """`render` renders a thumbnail in another process. Concurrent requests for one thumbnail render it
    once."""

    def __init__(self, blobs: Blobs, render: Render, max_pixels: int, max_bytes: int = MAX_BYTES) -> None:
        self._blobs, self._render, self._max_pixels = blobs, render, max_pixels
        self._cached: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._rendering: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, name: str, sha256: str, boxes: list[LabelledBox]) -> bytes:
        """`name` must identify everything that the thumbnail depends on. Raises NotFound if the original does
        not exist, and what the renderer raises."""
        cached = self._cached.get(name)
        if cached is not None:
            return cached
        task = self._rendering.get(name)
        if task is None:
            task = self._rendering[name] = asyncio.create_task(self._make(name, sha256, boxes))
            task.add_done_callback(partial(self._done, name))
        return await asyncio.shield(task)

    def _done(self, name: str, task: "asyncio.Task[bytes]") -> None:
        del self._rendering[name]
        if not task.cancelled():
            task.exception()  # marks it as retrieved, in case every client has disconnected

    async def _make(self, name: str, sha256: str, boxes: list[LabelledBox]) -> bytes:
        # Passes a path instead of bytes, so that originals waiting to be rendered take no memory here.
        try:
            async with self._blobs.local(sha256) as path:
                thumbnail = await self._render(str(path), boxes, self._max_pixels)
        except Invalid as problem:
            if problem.reason == "BLOB_NOT_FOUND":
                raise NotFound(problem.message, problem.reason) from None
            raise
        if len(thumbnail) <= self._cached.maxsize:
            self._cached[name] = thumbnail
        return thumbnail
