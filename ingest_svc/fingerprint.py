"""Identifies one state of a file by its metadata, without reading its content."""

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`path` is relative to the cameras folder, with forward slashes; bytes that cannot be decoded are
    surrogates. `outside`: it is a link that leads out of the cameras folder, and the other fields describe
    the link itself."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    outside: bool = False

    def same_state(self, other: "Fingerprint | None") -> bool:
        """Whether nothing changed between the two. Inodes are not compared, because some network file systems
        do not keep them."""
        return other is not None and (
            (self.path, self.size, self.mtime_ns, self.ctime_ns, self.outside)
            == (other.path, other.size, other.mtime_ns, other.ctime_ns, other.outside)
        )

    def same_content(self, other: "Fingerprint | None") -> bool:
        """Whether `other` can be this file under another name. Renaming changes the ctime."""
        return other is not None and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


def fingerprint(root: Path, path: str) -> Fingerprint | None:
    """None if the file does not exist now, is not a regular file (a folder, a pipe, a link to a folder in the
    cameras folder), or is in a linked folder. `root` contains no links."""
    return fingerprint_in_real_folder(root, path) if is_real_folder(root, path.rpartition("/")[0]) else None


def fingerprints(root: Path, paths: Iterable[str]) -> dict[str, Fingerprint]:
    """The fingerprints by path, of those files that have one. Each folder is checked only once."""
    real: dict[str, bool] = {}
    found: dict[str, Fingerprint] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in real:
            real[folder] = is_real_folder(root, folder)
        if real[folder] and (file := fingerprint_in_real_folder(root, path)) is not None:
            found[path] = file
    return found


def is_real_folder(root: Path, folder: str) -> bool:
    """Whether there is such a folder, and the path to it contains no links."""
    full = os.path.join(root, folder) if folder else str(root)
    if sys.platform != "linux":
        return os.path.isdir(full) and os.path.realpath(full) == full
    try:
        # One look-up, and not one for each folder of the path.
        descriptor = os.open(full, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == full
    finally:
        os.close(descriptor)


def fingerprint_in_real_folder(root: Path, path: str) -> Fingerprint | None:
    """Like `fingerprint`, for a file in a folder that is known to be real."""
    full = root / path
    try:
        status = os.lstat(full)
        outside = False
        if stat.S_ISLNK(status.st_mode):
            outside = not full.resolve().is_relative_to(root)
            if not outside:
                status = os.stat(full)
    except (OSError, RuntimeError):  # RuntimeError: the links form a circle
        return None
    if not outside and not stat.S_ISREG(status.st_mode):
        return None
    return _of(path, status, outside)


def _of(path: str, status: os.stat_result, outside: bool) -> Fingerprint:
    return Fingerprint(
        path,
        status.st_size,
        max(-INT64, min(INT64, status.st_mtime_ns)),
        max(-INT64, min(INT64, status.st_ctime_ns)),
        status.st_ino & INT64,
        outside,
    )


def fingerprint_of_open_file(path: str, descriptor: int) -> Fingerprint:
    return _of(path, os.fstat(descriptor), outside=False)


def printable(path: str) -> str:
    """The path as valid Unicode: bytes that cannot be decoded are written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
