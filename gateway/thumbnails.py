"""Thumbnails, made when asked for and kept in memory while there is room."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.drawing import Box
from mesh.blobs import Blobs
from mesh.problems import Invalid, NotFound

MOST_BYTES = 24 * 2**20

# The original's path, what to draw on it, and the most pixels it may have.
Draw = Callable[[str, list[Box], int], Awaitable[bytes]]


class Thumbnails:
    """`draw` makes one, elsewhere; the same one is not made twice at a time."""

    def __init__(self, blobs: Blobs, draw: Draw, most_pixels: int, most_bytes: int = MOST_BYTES) -> None:
        self._blobs, self._draw = blobs, draw
        self._most_pixels, self._most_bytes = most_pixels, most_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, name: str, sha256: str, boxes: list[Box]) -> bytes:
        """`name` says everything that the picture depends on. Raises NotFound without the original, and what
        the sandbox raises."""
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            return kept
        task = self._making.get(name)
        if task is None:
            task = self._making[name] = asyncio.create_task(self._make(name, sha256, boxes))
            task.add_done_callback(partial(self._end, name))
        return await asyncio.shield(task)

    def _end(self, name: str, task: "asyncio.Task[bytes]") -> None:
        del self._making[name]
        if not task.cancelled():
            task.exception()  # seen, also where everybody has left

    async def _make(self, name: str, sha256: str, boxes: list[Box]) -> bytes:
        # The path, not the bytes: however many wait to be drawn, none lies in this process's memory.
        try:
            async with self._blobs.local(sha256) as path:
                picture = await self._draw(str(path), boxes, self._most_pixels)
        except Invalid as problem:
            if problem.reason == "BLOB_NOT_FOUND":
                raise NotFound(problem.message, problem.reason) from None
            raise
        self._kept[name] = picture
        self._bytes += len(picture)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture
