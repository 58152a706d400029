"""Contents of which only a part has arrived. They survive the process, so that whoever sends them can go
on."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from mesh.file_lock import try_lock


class PartialContent(NamedTuple):
    """What has arrived of a content: bytes, and when the last of them did, in seconds since 1970."""

    name: str
    size: int
    written_at: float


class PartialContents:
    """A folder beside the spool, with a file for each content that somebody has begun to send, and may
    still send.

    Who writes one holds its lock, which the kernel releases if the process dies. Nothing is made durable
    before the whole content is stored: after a power failure a part may be shorter, or its content wrong,
    which the digest of the whole shows. All methods block and raise OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, name: str) -> FileIO | None:
        """Returns the file of this name, locked and positioned at its end; a new one if there is none. None
        while another holds it."""
        while True:
            file = FileIO(str(self._folder / name), "rb+", opener=_open_or_create)
            try:
                if not _locked(file):
                    file.close()
                    return None
                if self._is_in_place(file):
                    file.seek(0, os.SEEK_END)
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # it was removed or stored before it was locked

    def find(self, name: str) -> PartialContent | None:
        with suppress(FileNotFoundError):
            status = os.stat(self._folder / name)
            return PartialContent(name, status.st_size, status.st_mtime)
        return None

    def all(self) -> Iterator[PartialContent]:
        """In no particular order."""
        for name in os.listdir(self._folder):
            if part := self.find(name):
                yield part

    def remove(self, name: str, unwritten_since: float | None = None) -> bool:
        """Removes it unless somebody is writing it, or has since then. Returns whether it is gone."""
        file = self._existing(name)
        if file is None:
            return True
        with file:
            if not _locked(file):
                return False
            written_at = os.fstat(file.fileno()).st_mtime
            if unwritten_since is not None and written_at > unwritten_since:
                return False
            if self._is_in_place(file):
                os.unlink(self._folder / name)
            return True

    def remove_older(self, seconds: float) -> None:
        """Removes those to which nothing was added for so long."""
        for part in list(self.all()):
            with suppress(OSError):
                self.remove(part.name, time.time() - seconds)

    def free_bytes(self) -> tuple[int, int]:
        """How much of the disk is free for this process, and its size."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _existing(self, name: str) -> FileIO | None:
        with suppress(FileNotFoundError):
            return FileIO(str(self._folder / name), "rb+")
        return None

    def _is_in_place(self, file: FileIO) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), os.stat(str(file.name)))
        return False


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def _locked(file: FileIO) -> bool:
    """Whether the lock was taken. True if the file system has no locks: within a process, who writes what
    is known anyway."""
    try:
        return try_lock(file)
    except OSError:
        return True
