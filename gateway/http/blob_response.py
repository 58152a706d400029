"""Serves a blob, or a part of one, whole or in ranges.

Starlette serves ranges of local files only. Its private method `FileResponse._open_file` (starlette 1.10.0)
opens the file; overriding that method serves the ranges of a blob instead, and leaves the handling of the
Range and If-Range headers to Starlette. Check it, with tests/unit/gateway/test_media.py, when Starlette is
upgraded."""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from mesh.blobs import Blobs


class BlobResponse(FileResponse):
    """Serves the `size` bytes from `offset`. `modified` is in seconds since 1970."""

    chunk_size = 2**20

    def __init__(
        self,
        blobs: Blobs,
        sha256: str,
        size: int,
        modified: int,
        headers: Mapping[str, str],
        media_type: str,
        offset: int = 0,
    ) -> None:
        self._reader = _BlobReader(blobs, sha256, offset, offset + size)
        status = os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, size, modified, modified, modified))
        super().__init__(sha256, headers=headers, media_type=media_type, stat_result=status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No file has the path that Starlette would pass to a server with this extension.
        extensions = {k: v for k, v in scope.get("extensions", {}).items() if k != "http.response.pathsend"}
        await super().__call__({**scope, "extensions": extensions}, receive, send)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator["_BlobReader"]:  # type: ignore[override]
        try:
            yield self._reader
        finally:
            await self._reader.close()


class _BlobReader:
    """Has the `seek` and `read` of the file that Starlette expects. Consecutive reads use one stream, so that
    a range opens the blob once."""

    def __init__(self, blobs: Blobs, sha256: str, start: int, end: int) -> None:
        """Reads the bytes from `start` up to `end`."""
        self._blobs, self._sha256, self._start, self._end = blobs, sha256, start, end
        self._stream: AsyncGenerator[bytes, None] | None = None
        self._next, self._buffer = start, b""

    async def seek(self, offset: int) -> None:
        await self.close()
        self._next, self._buffer = self._start + offset, b""

    async def read(self, length: int) -> bytes:
        """Returns less than `length` only at the end."""
        if self._stream is None:
            self._stream = self._blobs.open_range(self._sha256, self._next, self._end)
        while len(self._buffer) < length and (chunk := await anext(self._stream, b"")):
            self._buffer += chunk
        chunk, self._buffer = self._buffer[:length], self._buffer[length:]
        return chunk

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
