"""Local copies of blobs that are stored elsewhere, for callers that need a file."""

import os
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.blobs.spool import Spool, SpooledFile
from mesh.file_lock import lock, try_lock

# This fraction of the bound may be added before the folder is scanned again.
MARGIN = 16


class HeldCopy:
    """A copy that is not removed before the block ends."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self._file = path, file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        self._file.close()


class BlobCache:
    """A folder with about `max_bytes` of copies, which several processes may share.

    The copies used least recently are removed first. A copy that is held has a shared lock, which the kernel
    releases if the process dies; it is never removed, even if more is held than `max_bytes`. All methods
    block and raise OSError.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._scanning = threading.Lock()
        self._spare = 0  # bytes that may be added without scanning the folder
        # Whether more is held than fits: `make_room` should be called again after a release.
        self.overfull = False

    def make_spool(self) -> Spool:
        """Returns the spool for new copies. Creates the cache's folder, accessible to its owner only, because
        the copies are photos."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Spool(self._folder / ".spool")

    def hold(self, sha256: str) -> HeldCopy | None:
        """Returns None if there is no copy."""
        path = self._path(sha256)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        try:
            # A copy that is being removed is locked, and one that was removed has no links.
            if try_lock(file, shared=True) and os.fstat(file.fileno()).st_nlink:
                os.utime(file.fileno())  # marks it as recently used
                return HeldCopy(path, file)
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def add(self, spooled: SpooledFile) -> HeldCopy:
        """Turns a file of this cache's spool into a copy, unless there is one."""
        blob = spooled.blob
        path = self._path(blob.sha256)
        spooled.begin_sync()
        spooled.sync()
        path.parent.mkdir(exist_ok=True)
        while True:
            if held := self.hold(blob.sha256):
                return held
            self.make_room(blob.size)
            with suppress(FileExistsError):
                file = spooled.link(path)
                lock(file, shared=True)
                return HeldCopy(path, file)

    def make_room(self, size: int) -> None:
        """Removes copies that are not held, the least recently used first, until `size` more bytes fit."""
        with self._scanning:
            if size > self._spare or self.overfull:
                copies = sorted(self._copies())
                total = sum(size for _, size, _ in copies)
                margin = self._max_bytes // MARGIN
                for _, length, path in copies:
                    if total + size + margin <= self._max_bytes:
                        break
                    if _remove(path):
                        total -= length
                self.overfull = total + size > self._max_bytes
                self._spare = min(margin, max(0, self._max_bytes - total - size))
            else:
                self._spare -= size

    def remove(self, sha256: str) -> None:
        """Removes the copy unless it is held."""
        _remove(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _copies(self) -> list[tuple[int, int, Path]]:
        """Returns for each copy the time of its last use, its size and its path."""
        copies: list[tuple[int, int, Path]] = []
        for subfolder in os.scandir(self._folder):
            if subfolder.name.startswith("."):
                continue
            for copy in os.scandir(subfolder):
                with suppress(FileNotFoundError):
                    status = copy.stat()
                    copies.append((status.st_mtime_ns, status.st_size, Path(copy.path)))
        return copies


def _remove(path: Path) -> bool:
    """Removes a copy; returns False if it is held.

    The lock is taken before the file is unlinked. A process that has opened the file before and gets the
    lock afterwards sees that it has no links.
    """
    try:
        with path.open("rb", buffering=0) as file:
            if not try_lock(file):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True
