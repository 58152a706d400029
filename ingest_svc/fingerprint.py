"""Telling one state of one file from every other, without reading it."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`path` is relative to the cameras folder, with forward slashes, as the system spells it (undecodable
    bytes as surrogates). `outside`: a link that leaves the cameras folder; the rest is the link's own."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    outside: bool = False

    def same_state(self, other: "Fingerprint | None") -> bool:
        """Whether nothing changed between the two. The inode is left out: some network file systems make
        them up anew."""
        return other is not None and (
            (self.path, self.size, self.mtime_ns, self.ctime_ns, self.outside)
            == (other.path, other.size, other.mtime_ns, other.ctime_ns, other.outside)
        )

    def renamed(self, other: "Fingerprint | None") -> bool:
        """Whether `other` may well be this file under another name: a renaming sets the ctime."""
        return other is not None and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


def fingerprint(root: Path, path: str) -> Fingerprint | None:
    """None where there is no such file now, or it is no file: a folder, a pipe, a link to a folder inside,
    anything behind a linked folder. `root` is free of links."""
    return listed(root, path) if real_folder(root, path.rpartition("/")[0]) else None


def fingerprints(root: Path, paths: Iterable[str]) -> dict[str, Fingerprint]:
    """By path, of those for which there is one; each folder is looked at once."""
    real: dict[str, bool] = {}
    found: dict[str, Fingerprint] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in real:
            real[folder] = real_folder(root, folder)
        if real[folder] and (file := listed(root, path)) is not None:
            found[path] = file
    return found


def real_folder(root: Path, folder: str) -> bool:
    """Whether it is reached without any link."""
    full = os.path.join(root, folder) if folder else str(root)
    return os.path.realpath(full) == full


def listed(root: Path, path: str) -> Fingerprint | None:
    """Of a file in a folder that is known to be real."""
    full = root / path
    try:
        status = os.lstat(full)
        outside = False
        if stat.S_ISLNK(status.st_mode):
            outside = not full.resolve().is_relative_to(root)
            if not outside:
                status = os.stat(full)
    except (OSError, RuntimeError):  # RuntimeError: a circle of links
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


def of_open(path: str, descriptor: int) -> Fingerprint:
    return _of(path, os.fstat(descriptor), outside=False)


def printable(path: str) -> str:
    """The path as valid Unicode: bytes that are none are written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
