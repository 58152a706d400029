"""Serves a blob, whole or in ranges.

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
    """`size` is in bytes, `modified` in seconds since 1970."""

    chunk_size = 2**20

    def __init__(
        self, blobs: Blobs, sha256: str, size: int, modified: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        self._blobs, self._sha256, self._size = blobs, sha256, size
        status = os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, size, modified, modified, modified))
        super().__init__(sha256, headers=headers, media_type=media_type, stat_result=status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No file has the path that Starlette would pass to a server with this extension.
        extensions = {k: v for k, v in scope.get("extensions", {}).items() if k != "http.response.pathsend"}
        await super().__call__({**scope, "extensions": extensions}, receive, send)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator["_BlobReader"]:  # type: ignore[override]
        reader = _BlobReader(self._blobs, self._sha256, self._size)
        try:
            yield reader
        finally:
            await reader.close()


class _BlobReader:
    """Has the `seek` and `read` of the file that Starlette expects. Consecutive reads use one stream, so that
    a range opens the blob once."""

    def __init__(self, blobs: Blobs, sha256: str, size: int) -> None:
        self._blobs, self._sha256, self._size = blobs, sha256, size
        self._stream: AsyncGenerator[bytes, None] | None = None
        self._offset, self._buffer = 0, b""

    async def seek(self, offset: int) -> None:
        await self.close()
        self._offset, self._buffer = offset, b""

    async def read(self, length: int) -> bytes:
        """Returns less than `length` only at the end."""
        if self._stream is None:
            self._stream = self._blobs.open_range(self._sha256, self._offset, self._size)
        while len(self._buffer) < length and (chunk := await anext(self._stream, b"")):
            self._buffer += chunk
        chunk, self._buffer = self._buffer[:length], self._buffer[length:]
        return chunk

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
