"""Identifies one state of a file by its metadata, without reading its content."""

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from ingest_svc.cameras_root import CamerasRoot

INT64 = 2**63 - 1
LINUX = sys.platform == "linux"
REAL_FOLDER = (os.O_PATH if LINUX else os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`path` is relative to the cameras folder, with forward slashes; bytes that cannot be decoded are
    surrogates. `outside`: it is a link that leads out of the cameras folder, or is in a camera folder that is
    itself a link, and the other fields describe the link itself."""

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


def fingerprint(root: CamerasRoot, path: str) -> Fingerprint | None:
    """None if the file does not exist now, is not a regular file (a folder, a pipe, a link to a folder in the
    cameras folder), or is in a linked folder."""
    return fingerprint_in_real_folder(root, path) if is_real_folder(root, path.rpartition("/")[0]) else None


def fingerprints(root: CamerasRoot, paths: Iterable[str]) -> dict[str, Fingerprint]:
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


def is_real_folder(root: CamerasRoot, folder: str) -> bool:
    """Whether there is such a folder, and the path to it contains no links but one that `root` follows."""
    try:
        os.close(open_real_folder(root, folder))
    except OSError:
        return False
    return True


def open_real_folder(root: CamerasRoot, folder: str) -> int:
    """A descriptor of the folder, for use as `dir_fd`. Raises OSError if `is_real_folder` returns false."""
    full = root.full(folder)
    descriptor = os.open(full, REAL_FOLDER)
    try:
        # One look-up, and not one for each folder of the path.
        real = os.readlink(f"/proc/self/fd/{descriptor}") if LINUX else os.path.realpath(full)
        if real != full:
            raise NotADirectoryError(full)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def fingerprint_in_real_folder(root: CamerasRoot, path: str) -> Fingerprint | None:
    """Like `fingerprint`, for a file in a folder that is known to be real."""
    if root.is_link(path):
        return None
    full = root / path
    try:
        status = os.lstat(full)
        outside = False
        if stat.S_ISLNK(status.st_mode):
            outside = root.is_linked(path) or not full.resolve().is_relative_to(root.path)
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


def is_in_place(root: CamerasRoot, path: str, descriptor: int) -> bool:
    """Whether an open file is where a file with this path may be, and was not reached by a link that was made
    after its folder was found to be real."""
    if LINUX:
        return root.contains(path, os.readlink(f"/proc/self/fd/{descriptor}"))
    return root.contains(path, os.path.realpath(root / path))


def printable(path: str) -> str:
    """The path as valid Unicode: bytes that cannot be decoded are written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
