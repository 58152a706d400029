"""The lock that keeps another Lares away from a cameras folder.

All ingest_svc of one Lares share it: which of them watches the folder is decided by a lease in their store,
because a lock on a file outlives its machine on NFS, and a process that is stopped keeps it. But two Lares
with stores of their own, started on one folder by mistake, would both take in every file.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from ingest_svc.folder_id import MAX_BYTES, NOT_WRITABLE
from mesh import file_lock
from mesh.problems import Conflict

LOCK_NAME = ".lares.lock"
PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05

log = structlog.get_logger(__name__)


class FolderLock:
    """`owner` names the Lares to which this process belongs. `renew` and `clock` block; call them from one
    thread at a time."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._path, self._owner, self._descriptor = folder / LOCK_NAME, owner, -1
        # Nobody can write to the folder, so there is no lock.
        self._read_only = False

    def clock(self) -> int:
        """The time by the clock of the folder's file system, in nanoseconds; comparable with ctimes. That of
        this machine if nobody can write to the folder. Raises OSError."""
        if self._read_only:
            return time.time_ns()
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_ctime_ns

    def renew(self) -> None:
        """Holds the lock of the folder that is there now, which may be another one than before.

        Raises Conflict INGEST_RUNNING if another Lares holds it, and OSError.
        """
        if self._holds():
            return
        self.close()  # first, because it may be the same file, mounted again
        self._read_only = False
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            os.scandir(self._path.parent).close()  # it may be away
            self._read_only = True
            return
        if not _shared(descriptor, self._owner.encode()):
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


def _shared(descriptor: int, owner: bytes) -> bool:
    """Whether it is locked now, together with others of this owner, whose name is in the file."""
    if file_lock.try_lock(descriptor):  # nobody else has it, so the name may be replaced
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, owner, 0)
    return file_lock.try_lock(descriptor, shared=True) and os.pread(descriptor, MAX_BYTES, 0) == owner


@asynccontextmanager
async def lock_folder(
    folder: Path, owner: str, patience: float = PATIENCE_SECONDS
) -> AsyncIterator[FolderLock]:
    """Holds the lock until the block ends. Waits up to `patience` seconds, in case another Lares is about to
    end. While the folder is away, nothing is held until `renew`.

    Raises Conflict INGEST_RUNNING if another Lares holds the lock.
    """
    lock = FolderLock(folder, owner)
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
