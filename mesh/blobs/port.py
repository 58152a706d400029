"""The interface of every blob store."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from mesh.blobs.parts import Parts
from mesh.blobs.spool import Blob, Spool, SpooledFile
from mesh.problems import Invalid, NotFound, Unavailable

THREADS = 4
# The most that `open_range` holds in memory.
PIECE_BYTES = 2**20

Source = Path | BinaryIO | AsyncIterable[bytes]

P = ParamSpec("P")
T = TypeVar("T")


class Blobs(ABC):
    """Immutable contents, named by their SHA-256. Several processes may use one store at the same time.

    Every method raises Unavailable while the storage fails; methods that put also raise OSError if the local
    disk fails. Both may pass. NotFound BLOB_NOT_FOUND is raised only if the blob certainly does not exist.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def prepare(self) -> None:
        """Call before the first put: removes what killed processes have left in the spool. Raises Invalid
        BAD_SETTING if these settings do not allow puts."""
        await self._run(lambda: self._spool)

    async def put(self, source: Source, expect: Blob | None = None) -> Blob:
        """Stores the content of `source` and returns when it is durable.

        Content that is stored already gets the present as its time. Raises Conflict CONTENT_CHANGED if the
        content is not `expect`. A failed put leaves nothing behind.
        """
        async with self.spooled() as spooled:
            if isinstance(source, AsyncIterable):
                async for chunk in source:
                    await self._run(spooled.write, chunk)
            else:
                await self._run(_copy, spooled, source)
            return await spooled.store(expect)

    @asynccontextmanager
    async def spooled(self) -> AsyncIterator[SpooledFile]:
        """Yields a file for content that is examined before it is stored. Content that has not been stored
        when the block ends is discarded."""
        spooled = SpooledFile(lambda: self._spool, self._store)
        try:
            yield spooled
        finally:
            if spooled.close():
                await asyncio.shield(self._run(spooled.discard))

    @abstractmethod
    async def _store(self, spooled: SpooledFile) -> None: ...

    @cached_property
    def _spool(self) -> Spool:
        """Created on first use, so that a process that only reads writes nothing."""
        return self._make_spool()

    @cached_property
    def parts(self) -> Parts:
        """Parts of contents that are still arriving."""
        return self._make_parts()

    def free_bytes(self) -> tuple[int, int]:
        """How much of the disk of the spool is free for this process, and its size. Blocks. Raises
        OSError."""
        return self._spool.free_bytes()

    @abstractmethod
    def _make_spool(self) -> Spool: ...

    @abstractmethod
    def _make_parts(self) -> Parts: ...

    @abstractmethod
    def open_range(self, sha256: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yields the bytes from `start` up to `end` in pieces of at most PIECE_BYTES. Raises NotFound, and
        Invalid BAD_RANGE if the blob is shorter than `end`."""

    @abstractmethod
    def local(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """Yields the path of a file with this content, which may be read until the block ends. Raises
        NotFound and Unavailable, at the latest in place of the error of a block that could not read it."""

    @abstractmethod
    async def size(self, sha256: str) -> int:
        """Returns the size in bytes. Raises NotFound."""

    @abstractmethod
    def list(self) -> AsyncIterator[str]:
        """Yields the names of all blobs in no particular order. Blobs that are put or deleted meanwhile may
        or may not be included."""

    @abstractmethod
    async def delete(self, sha256: str, older_than: datetime) -> bool:
        """Deletes the blob if it was last put before `older_than`, a time in the past.

        Returns whether the blob was deleted; False if it does not exist. Content that is put at the same
        time is kept.
        """

    @abstractmethod
    async def check(self) -> None:
        """Raises Unavailable if the storage does not answer."""

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))


def not_found() -> NotFound:
    return NotFound("this media's content is gone", "BLOB_NOT_FOUND")


def unreadable(error: OSError) -> Unavailable:
    return Unavailable(f"blobs cannot be read: {error.strerror}", "BLOBS_UNAVAILABLE")


def require_range(start: int, end: int, size: int) -> None:
    if not 0 <= start <= end <= size:
        raise Invalid(f"bytes {start} to {end} are outside a blob of {size} bytes", "BAD_RANGE")


def _copy(spooled: SpooledFile, source: Path | BinaryIO) -> None:
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as stream:
            spooled.copy(stream)
    else:
        spooled.copy(source)
