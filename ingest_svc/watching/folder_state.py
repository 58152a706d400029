"""What a folder looked like when it was listed."""

import os
import re
import stat
import time
from dataclasses import dataclass

# A folder that changed less than this before it was listed may change again without a new mtime.
COARSE_CLOCK_NS = 2_000_000_000
# How the kernel writes some bytes of paths in /proc/self/mountinfo: as \\040.
OCTAL = re.compile(rb"[ \t\n\\]")


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


def is_mount_point(path: str) -> bool:
    """Whether a file system is mounted at the path; also one that is mounted elsewhere, too, which
    os.path.ismount does not notice. False where the system does not say."""
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            points = {line.split(b" ", 5)[4] for line in mounts}
    except OSError:
        return False
    return OCTAL.sub(_escaped, os.fsencode(path)) in points


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\%03o" % match[0][0]


def require_searchable(path: str) -> None:
    """Raises PermissionError if the entries of the folder can be listed but not looked at."""
    if not os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"Permission denied: {path}")
