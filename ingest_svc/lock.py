"""One ingest for each cameras folder."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.problems import Conflict

NAME = ".lares.lock"
PATIENCE_SECONDS = 3.0


class Lock:
    """Held as long as its block; freed by the kernel when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def clock(self) -> int:
        """Now, as the file system of this folder stamps its files: nanoseconds, comparable with a ctime."""
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_ctime_ns


@asynccontextmanager
async def locked(folder: Path, patience: float = PATIENCE_SECONDS) -> AsyncIterator[Lock]:
    """Waits up to `patience` seconds, for one that is just ending. Raises Conflict INGEST_RUNNING."""
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(f"another Lares takes the photos of {folder}", "INGEST_RUNNING") from None
            await asyncio.sleep(0.05)
        yield Lock(descriptor)
    finally:
        os.close(descriptor)
