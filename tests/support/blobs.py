"""Helpers for tests with blobs."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.blobs import Blobs, FileBlobs


async def keep_blob(blobs: Blobs, content: bytes) -> str:
    """Stores `content` and returns its SHA-256."""
    return (await blobs.put(io.BytesIO(content))).sha256


async def content_of(blobs: Blobs, sha256: str) -> bytes:
    return b"".join([piece async for piece in blobs.open_range(sha256, 0, await blobs.size(sha256))])


class NamedBlobs(FileBlobs):
    """Returns paths without checking that the blobs exist."""

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        yield self._path(sha256)
