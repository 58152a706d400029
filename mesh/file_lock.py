"""Locks on open files, by flock(2): the kernel releases them when the file is closed or the process dies.

Our own, because the library filelock has no shared flock locks (its shared locks lie in an SQLite database),
and readers of blobs need them.
"""

import fcntl
from typing import Protocol


class LockableFile(Protocol):
    def fileno(self) -> int: ...


def lock(file: LockableFile | int, *, shared: bool = False) -> None:
    """Waits until the lock is free. Raises OSError where the file system has no locks."""
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock(file: LockableFile | int, *, shared: bool = False) -> bool:
    """Takes the lock if it is free now; returns whether it did. Raises OSError where the file system has no
    locks."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
