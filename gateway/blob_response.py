"""A blob as an answer, whole or in ranges.

Starlette answers ranges out of files alone, and where it opens the file is private to it (starlette 1.x,
`FileResponse._open_file`): what is opened here instead has the same `seek` and `read`.
"""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from mesh.blobs import Blobs


class BlobResponse(FileResponse):
    """`size` in bytes; `modified` in seconds since 1970."""

    chunk_size = 2**20

    def __init__(
        self, blobs: Blobs, sha256: str, size: int, modified: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        self._blobs, self._sha256, self._size = blobs, sha256, size
        status = os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, size, modified, modified, modified))
        super().__init__(sha256, headers=headers, media_type=media_type, stat_result=status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # There is no path that a server could send by itself.
        extensions = {k: v for k, v in scope.get("extensions", {}).items() if k != "http.response.pathsend"}
        await super().__call__({**scope, "extensions": extensions}, receive, send)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator["_Reader"]:  # type: ignore[override]
        reader = _Reader(self._blobs, self._sha256, self._size)
        try:
            yield reader
        finally:
            await reader.close()


class _Reader:
    """Reads on from where it last was, so that a blob is opened once for a range."""

    def __init__(self, blobs: Blobs, sha256: str, size: int) -> None:
        self._blobs, self._sha256, self._size = blobs, sha256, size
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._at, self._piece = 0, b""

    async def seek(self, at: int) -> None:
        await self.close()
        self._at, self._piece = at, b""

    async def read(self, length: int) -> bytes:
        """Less than `length` only at the end."""
        if self._pieces is None:
            self._pieces = self._blobs.open_range(self._sha256, self._at, self._size)
        while len(self._piece) < length and (more := await anext(self._pieces, b"")):
            self._piece += more
        wanted, self._piece = self._piece[:length], self._piece[length:]
        return wanted

    async def close(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            await pieces.aclose()
