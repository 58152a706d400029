"""Locks on open files, with flock(2): the kernel releases them when the file is closed or the process dies.

The library filelock is not used, because readers of blobs need shared locks, and its shared locks are in an
SQLite database instead of on the file.
"""

import fcntl
import time
from typing import Protocol

# How often a lock is tried that is waited for with a limit: flock(2) itself has none.
TRY_SECONDS = 0.05


class LockableFile(Protocol):
    def fileno(self) -> int: ...


def lock(file: LockableFile | int, *, shared: bool = False) -> None:
    """Takes the lock; waits until it is free. Raises OSError if the file system has no locks."""
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def lock_within(file: LockableFile | int, seconds: float) -> bool:
    """Takes the lock as soon as it is free, and returns whether it was within these seconds. Raises OSError
    if the file system has no locks."""
    deadline = time.monotonic() + seconds
    while not try_lock(file):
        if time.monotonic() >= deadline:
            return False
        time.sleep(TRY_SECONDS)
    return True


def try_lock(file: LockableFile | int, *, shared: bool = False) -> bool:
    """Takes the lock if it is free, and returns whether it did. Raises OSError if the file system has no
    locks."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
