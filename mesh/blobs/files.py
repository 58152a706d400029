"""Blobs in a folder: `<folder>/ab/abcdef...`."""

import fcntl
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar

from mesh.blobs.group_commit import GroupCommit
from mesh.blobs.port import Blobs, gone, require_range, unreadable
from mesh.blobs.spool import Spool, SpooledFile, read_at
from mesh.durable_files import sync_folder
from mesh.problems import Unavailable

SHELF = re.compile(r"[0-9a-f]{2}")
READ_BYTES = 256 * 1024
FLUSHERS = 4
NAME = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class FileBlobs(Blobs):
    """Puts that come at once share the flushing of the disk. A blob's time is the file's mtime."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._commits = GroupCommit(self._commit)
        self._flushers = ThreadPoolExecutor(FLUSHERS, thread_name_prefix="blob-flushes")
        self._named: set[Path] = set()  # the shelves whose names are durable

    def close(self) -> None:
        self._commits.close()
        self._flushers.shutdown()
        super().close()

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        await self.size(sha256)
        yield self._path(sha256)

    async def open_range(self, sha256: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        with self._reading():
            file = await self._run(self._path(sha256).open, "rb", buffering=0)
        with file:
            require_range(start, end, os.fstat(file.fileno()).st_size)
            while start < end:
                with self._reading():
                    piece = await self._run(read_at, file.fileno(), start, min(READ_BYTES, end - start))
                start += len(piece)
                yield piece

    async def size(self, sha256: str) -> int:
        with self._reading():
            return (await self._run(self._path(sha256).stat)).st_size

    async def list(self) -> AsyncIterator[str]:
        for shelf in await self._names_in(self._folder):
            if SHELF.fullmatch(shelf):
                for name in await self._names_in(self._folder / shelf):
                    if NAME.fullmatch(name):
                        yield name

    async def delete(self, sha256: str, older_than: datetime) -> bool:
        with self._reading():
            return await self._run(self._delete, self._path(sha256), older_than.timestamp())

    async def check(self) -> None:
        with self._reading():
            await self._run(self._folder.stat)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _make_spool(self) -> Spool:
        return Spool(self._folder / ".spool")

    async def _names_in(self, folder: Path) -> Sequence[str]:
        with self._reading():
            return await self._run(os.listdir, folder)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """NotFound where there is the folder, but not the blob."""
        try:
            yield
        except FileNotFoundError as error:
            raise (gone() if self._folder.is_dir() else unreadable(error)) from None
        except OSError as error:
            raise unreadable(error) from None

    async def _store(self, spooled: SpooledFile) -> None:
        await self._commits.commit(spooled)

    def _commit(self, batch: Sequence[SpooledFile]) -> Sequence[Exception | None]:
        """All contents are made durable, then all get their names, then these are made durable, each folder's
        at once. Whatever fails on the way fails alone."""
        paths = [self._path(spooled.blob.sha256) for spooled in batch]
        failed = self._flushed(lambda number: batch[number].sync(), range(len(batch)))

        def left() -> Iterator[int]:
            return (number for number in range(len(batch)) if number not in failed)

        with ExitStack() as stack:
            locked: set[Path] = set()
            for number in left():
                shelf = paths[number].parent
                try:
                    shelf.mkdir(parents=True, exist_ok=True)
                    if shelf not in locked:
                        stack.enter_context(self._shared(shelf))
                        locked.add(shelf)
                    batch[number].rename(paths[number])
                except Exception as error:
                    failed[number] = error
        shelves = {paths[number].parent for number in left()}
        unnamed = shelves - self._named
        lost = self._flushed(sync_folder, [*shelves, self._folder] if unnamed else [*shelves])
        for number in left():
            shelf = paths[number].parent
            if failure := lost.get(shelf) or (lost.get(self._folder) if shelf in unnamed else None):
                failed[number] = failure
        self._named |= {paths[number].parent for number in left()}
        return [failed.get(number) for number in range(len(batch))]

    def _flushed(self, flush: Callable[[T], object], items: Sequence[T]) -> dict[T, Exception]:
        """Flushes all at the same time, for which the file system needs little more time than for one.
        Returns the errors of those that failed."""

        def attempt(item: T) -> Exception | None:
            try:
                flush(item)
            except Exception as error:
                return error
            return None

        run = self._flushers.map if len(items) > 1 else map
        outcome = zip(items, run(attempt, items), strict=True)
        return {item: error for item, error in outcome if error is not None}

    def _delete(self, path: Path, older_than: float) -> bool:
        with self._alone(path.parent):
            try:
                if path.stat().st_mtime >= older_than:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(path.parent)
            return True

    @contextmanager
    def _shared(self, shelf: Path) -> Iterator[None]:
        """Nobody deletes from this shelf within the block. Where files cannot be locked nobody deletes at
        all (see `_alone`)."""
        with self._lock(shelf) as lock:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def _alone(self, shelf: Path) -> Iterator[None]:
        """Nobody puts into this shelf, or deletes from it, within the block."""
        with self._lock(shelf) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise Unavailable(
                    f"nothing can be deleted where files cannot be locked: {error.strerror}", "NO_LOCKS"
                ) from None
            yield

    def _lock(self, shelf: Path) -> FileIO:
        path = self._folder / ".locks" / shelf.name
        try:
            return path.open("ab+", buffering=0)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab+", buffering=0)
