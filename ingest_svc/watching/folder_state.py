"""What a folder looked like when it was listed."""

import os
import stat
import time
from dataclasses import dataclass

# A folder that changed less than this before it was listed may change again without a new mtime.
COARSE_CLOCK_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class FolderState:
    """`identity` tells one folder from another at the same path. While `times` stay the same and `settled` is
    true, no entry was made, removed or renamed."""

    identity: tuple[int, int]
    times: tuple[int, int]
    settled: bool

    def unchanged(self, other: "FolderState") -> bool:
        return self.settled and (self.identity, self.times) == (other.identity, other.times)


def folder_state(path: str) -> FolderState:
    """Raises OSError: NotADirectoryError if there is something else, for example a link."""
    now = time.time_ns()
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(path)
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    return FolderState(
        (status.st_dev, status.st_ino),
        (status.st_mtime_ns, status.st_ctime_ns),
        settled=newest < now - COARSE_CLOCK_NS,
    )


def require_searchable(path: str) -> None:
    """Raises PermissionError if the entries of the folder can be listed but not looked at."""
    if not os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"Permission denied: {path}")
