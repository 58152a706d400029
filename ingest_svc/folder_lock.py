"""The lock that lets only one ingest use a cameras folder."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh import file_lock
from mesh.problems import Conflict

LOCK_NAME = ".lares.lock"
PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05


class FolderLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def clock(self) -> int:
        """The time by the clock of the folder's file system, in nanoseconds; comparable with ctimes."""
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_ctime_ns


@asynccontextmanager
async def lock_folder(folder: Path, patience: float = PATIENCE_SECONDS) -> AsyncIterator[FolderLock]:
    """Holds the lock until the block ends. Waits up to `patience` seconds, in case another ingest is
    about to end.

    Raises Conflict INGEST_RUNNING if another ingest holds the lock.
    """
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not file_lock.try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise Conflict(f"another Lares already ingests the photos in {folder}", "INGEST_RUNNING")
            await asyncio.sleep(POLL_SECONDS)
        yield FolderLock(descriptor)
    finally:
        os.close(descriptor)
