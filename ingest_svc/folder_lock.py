"""The lock that lets only one ingest use a cameras folder."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from mesh import file_lock
from mesh.problems import Conflict

LOCK_NAME = ".lares.lock"
PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05

log = structlog.get_logger(__name__)


class FolderLock:
    """`renew` and `clock` block; call them from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._path, self._descriptor = folder / LOCK_NAME, -1

    def clock(self) -> int:
        """The time by the clock of the folder's file system, in nanoseconds; comparable with ctimes. Raises
        OSError."""
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_ctime_ns

    def renew(self) -> None:
        """Holds the lock of the folder that is there now, which may be another one than before.

        Raises Conflict INGEST_RUNNING if another ingest holds it, and OSError.
        """
        if self._holds():
            return
        self.close()  # first, because it may be the same file, mounted again
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not file_lock.try_lock(descriptor):
            os.close(descriptor)
            raise Conflict(
                f"another Lares already ingests the photos in {self._path.parent}", "INGEST_RUNNING"
            )
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _holds(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            there = os.lstat(self._path)
        except FileNotFoundError:
            return False
        held = os.fstat(self._descriptor)
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


@asynccontextmanager
async def lock_folder(folder: Path, patience: float = PATIENCE_SECONDS) -> AsyncIterator[FolderLock]:
    """Holds the lock until the block ends. Waits up to `patience` seconds, in case another ingest is
    about to end. While the folder is away, nothing is held until `renew`.

    Raises Conflict INGEST_RUNNING if another ingest holds the lock.
    """
    lock = FolderLock(folder)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                lock.renew()
                break
            except OSError as error:
                log.error("the cameras folder is away", error=str(error))
                break
            except Conflict:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(POLL_SECONDS)
        yield lock
    finally:
        lock.close()
