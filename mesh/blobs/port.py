"""What blobs are, wherever they lie."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from mesh.blobs.spool import Blob, Spool, SpooledFile
from mesh.problems import Invalid, NotFound, Unavailable

THREADS = 4
# The most of a blob that `open_range` holds at once.
PIECE_BYTES = 2**20

Source = Path | BinaryIO | AsyncIterable[bytes]

P = ParamSpec("P")
T = TypeVar("T")


class Blobs(ABC):
    """Immutable content, named by its SHA-256. Safe for many processes at once: equal content, equal name.

    Every method raises Unavailable while the place where the blobs lie fails, and what puts also OSError of
    the local disk: both may pass. Only what is certainly not there is NotFound BLOB_NOT_FOUND.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def prepare(self) -> None:
        """For whoever will put: clears what killed processes left in the spool. Raises Invalid BAD_SETTING
        where nothing can be put with these settings."""
        await self._run(lambda: self._spool)

    async def put(self, source: Source, expect: Blob | None = None) -> Blob:
        """Keeps what `source` holds; durable when this returns. Content that is there already is as if it
        had been put just now. Raises Conflict CONTENT_CHANGED where it is not what was expected; that, and
        any other failure, leaves no trace."""
        async with self.spooled() as spooled:
            if isinstance(source, AsyncIterable):
                async for chunk in source:
                    await self._run(spooled.write, chunk)
            else:
                await self._run(_copy, spooled, source)
            return await spooled.store(expect)

    @asynccontextmanager
    async def spooled(self) -> AsyncIterator[SpooledFile]:
        """Content to be looked at before it is stored, if it is: what was not stored by the end of the block
        is gone."""
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
        """Made when it is asked for: whoever only reads writes nothing."""
        return self._make_spool()

    @abstractmethod
    def _make_spool(self) -> Spool: ...

    @abstractmethod
    def open_range(self, sha256: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `end`, in pieces of at most PIECE_BYTES. Raises NotFound, and Invalid
        BAD_RANGE where the blob does not reach to `end`."""

    @abstractmethod
    def local(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """The path of a file with this content, for reading until the block ends. Raises NotFound."""

    @abstractmethod
    async def size(self, sha256: str) -> int:
        """In bytes. Raises NotFound."""

    @abstractmethod
    def list(self) -> AsyncIterator[str]:
        """The names of all blobs, in no order; one that is put or deleted meanwhile may be among them."""

    @abstractmethod
    async def delete(self, sha256: str, older_than: datetime) -> bool:
        """Deletes the blob, unless it was put at `older_than`, a time in the past, or after. Returns whether
        it did: False where there is none, too. What is put meanwhile stays, however the two overlap."""

    @abstractmethod
    async def check(self) -> None:
        """Raises Unavailable while the place where the blobs lie does not answer."""

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))


def gone() -> NotFound:
    return NotFound("this media's content is gone", "BLOB_NOT_FOUND")


def unreadable(error: OSError) -> Unavailable:
    return Unavailable(f"blobs cannot be read: {error.strerror}", "BLOBS_UNAVAILABLE")


def require_range(start: int, end: int, size: int) -> None:
    if not 0 <= start <= end <= size:
        raise Invalid(f"there are no bytes {start} to {end} in {size}", "BAD_RANGE")


def _copy(spooled: SpooledFile, source: Path | BinaryIO) -> None:
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as stream:
            spooled.copy(stream)
    else:
        spooled.copy(source)
