"""Blobs in a folder: `<folder>/ab/abcdef...`."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path

from mesh.blobs.parts import FOLDER, FileParts, Parts
from mesh.blobs.port import Blobs, not_found, require_range, unreadable
from mesh.blobs.spool import Spool, SpooledFile, read_at
from mesh.durable_files import sync_folder
from mesh.file_lock import lock
from mesh.grouped_work import GroupedWork
from mesh.problems import Problem, Unavailable

SUBFOLDER = re.compile(r"[0-9a-f]{2}")
NAME = re.compile(r"[0-9a-f]{64}")
READ_BYTES = 256 * 1024
# How many files share a commit at most, and how many commits are made at once: a disk flushes for two of them
# almost as fast as for one.
MAX_COMMIT, COMMITS = 16, 2


class FileBlobs(Blobs):
    """Concurrent puts share their flushes to the disk. The time of a blob is the file's mtime."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._commit_executor = ThreadPoolExecutor(COMMITS, thread_name_prefix="blob-commits")
        self._commits: GroupedWork[SpooledFile, None] = GroupedWork(
            self._commit, self._commit_executor, most=MAX_COMMIT, at_once=COMMITS
        )
        self._durable_subfolders: set[Path] = set()

    def close(self) -> None:
        self._commit_executor.shutdown(wait=True, cancel_futures=True)
        super().close()

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        try:
            yield self._path(sha256)
        except Exception as error:
            # Looked at only now: a look at every file would be a considerable part of a photo's cost.
            await self.size(sha256)
            missed = isinstance(error, Problem) and error.reason == not_found().reason
            if missed or isinstance(error, FileNotFoundError):
                raise Unavailable("the blobs' folder was away for a moment", "BLOBS_UNAVAILABLE") from None
            raise

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
        for subfolder in await self._names_in(self._folder):
            if SUBFOLDER.fullmatch(subfolder):
                for name in await self._names_in(self._folder / subfolder):
                    if NAME.fullmatch(name):
                        yield name

    async def delete(self, sha256: str, older_than: datetime) -> bool:
        with self._reading():
            return await self._run(self._delete, self._path(sha256), older_than.timestamp())

    async def check(self) -> None:
        with self._reading():
            await self._run(self._folder.stat)

    def _path(self, sha256: str) -> Path:
        return self._folder.joinpath(sha256[:2], sha256)

    def _make_spool(self) -> Spool:
        return Spool(self._folder / ".spool")

    def _make_parts(self) -> Parts:
        return FileParts(self._folder / FOLDER, self._run)

    async def _names_in(self, folder: Path) -> Sequence[str]:
        with self._reading():
            return await self._run(os.listdir, folder)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turns OSError into NotFound if the folder exists but the file does not, otherwise into
        Unavailable."""
        try:
            yield
        except FileNotFoundError as error:
            raise (not_found() if self._folder.is_dir() else unreadable(error)) from None
        except OSError as error:
            raise unreadable(error) from None

    async def _store(self, spooled: SpooledFile) -> None:
        await self._commits.do(spooled)

    def _commit(self, batch: Sequence[SpooledFile]) -> Sequence[Exception | None]:
        """Stores a batch: makes all contents durable, renames all files, then makes the names durable, one
        flush for each folder. The failure of one file does not affect the others."""
        paths = [self._path(spooled.blob.sha256) for spooled in batch]
        failures: dict[int, Exception] = {}

        def remaining() -> list[int]:
            return [number for number in range(len(batch)) if number not in failures]

        def with_each(work: Callable[[int], object]) -> None:
            for number in remaining():
                try:
                    work(number)
                except Exception as error:
                    failures[number] = error

        with_each(lambda number: batch[number].begin_sync())
        with_each(lambda number: batch[number].sync())
        with ExitStack() as stack:
            locked: set[Path] = set()

            def rename(number: int) -> None:
                subfolder = paths[number].parent
                if subfolder not in self._durable_subfolders:
                    subfolder.mkdir(parents=True, exist_ok=True)
                if subfolder not in locked:
                    stack.enter_context(self._shared_lock(subfolder))
                    locked.add(subfolder)
                batch[number].rename(paths[number])

            with_each(rename)
        lost = self._sync_folders({paths[number].parent for number in remaining()})
        for number in remaining():
            if error := lost.get(paths[number].parent):
                failures[number] = error
        self._durable_subfolders -= {paths[number].parent for number in failures}  # it may be gone
        return [failures.get(number) for number in range(len(batch))]

    def _sync_folders(self, subfolders: set[Path]) -> dict[Path, Exception]:
        """Makes the names in these folders durable, and their own names. Returns errors by folder."""
        failures: dict[Path, Exception] = {}
        for subfolder in subfolders:
            try:
                sync_folder(subfolder)
            except Exception as error:
                failures[subfolder] = error
        if new := subfolders - failures.keys() - self._durable_subfolders:
            try:
                sync_folder(self._folder)
            except Exception as error:
                failures |= dict.fromkeys(new, error)
        self._durable_subfolders |= subfolders - failures.keys()
        return failures

    def _delete(self, path: Path, older_than: float) -> bool:
        with self._exclusive_lock(path.parent):
            try:
                if path.stat().st_mtime >= older_than:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(path.parent)
            return True

    @contextmanager
    def _shared_lock(self, subfolder: Path) -> Iterator[None]:
        """Prevents deletions from this subfolder within the block. If the file system has no locks, nothing
        is ever deleted (see `_exclusive_lock`)."""
        with self._lock_file(subfolder) as file:
            with suppress(OSError):
                lock(file, shared=True)
            yield

    @contextmanager
    def _exclusive_lock(self, subfolder: Path) -> Iterator[None]:
        """Prevents puts into and deletions from this subfolder within the block."""
        with self._lock_file(subfolder) as file:
            try:
                lock(file)
            except OSError as error:
                raise Unavailable(
                    f"blobs cannot be deleted, because the file system has no locks: {error.strerror}",
                    "NO_LOCKS",
                ) from None
            yield

    def _lock_file(self, subfolder: Path) -> FileIO:
        path = self._folder / ".locks" / subfolder.name
        try:
            return FileIO(path, "ab+")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return FileIO(path, "ab+")
