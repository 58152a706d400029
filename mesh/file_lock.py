"""Locks on open files, with flock(2): the kernel releases them when the file is closed or the process dies.

The library filelock is not used, because readers of blobs need shared locks, and its shared locks are in an
SQLite database instead of on the file.
"""

import fcntl
from typing import Protocol


class LockableFile(Protocol):
    def fileno(self) -> int: ...


def lock(file: LockableFile | int, *, shared: bool = False) -> None:
    """Takes the lock; waits until it is free. Raises OSError if the file system has no locks."""
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock(file: LockableFile | int, *, shared: bool = False) -> bool:
    """Takes the lock if it is free, and returns whether it did. Raises OSError if the file system has no
    locks."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
