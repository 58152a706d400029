"""Copies of blobs that lie elsewhere, for those who need a file."""

import fcntl
import os
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.blobs.spool import Spool, SpooledFile

# Of the bound: as much may be added before the folder is looked through again.
MARGIN = 16


class HeldCopy:
    """A copy that stays where it is until the block ends."""

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
    """A folder for several processes at once, with about `most_bytes` of copies; what is held is never
    removed, however much that is. Whoever holds a copy has a shared lock on it, which the kernel frees when
    the process dies. All methods block and raise OSError."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._scanning = threading.Lock()
        self._spare = 0  # bytes that may be added without looking through the folder
        self.overfull = False  # more is held than fits: `make_room` again when something was let go

    def make_spool(self) -> Spool:
        """For copies in the making. Makes the cache's folder, too, for its owner only: these are photos."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Spool(self._folder / ".spool")

    def hold(self, sha256: str) -> HeldCopy | None:
        """None where there is no copy."""
        path = self._path(sha256)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                os.utime(file.fileno())  # what was not used for longest goes first
                return HeldCopy(path, file)
        except BlockingIOError:
            pass  # just being removed
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def add(self, spooled: SpooledFile) -> HeldCopy:
        """Makes a copy of what was written to this cache's spool, unless there is one."""
        blob = spooled.blob
        path = self._path(blob.sha256)
        spooled.sync()
        path.parent.mkdir(exist_ok=True)
        while True:
            if held := self.hold(blob.sha256):
                return held
            self.make_room(blob.size)
            with suppress(FileExistsError):
                file = spooled.link(path)
                fcntl.flock(file, fcntl.LOCK_SH)
                return HeldCopy(path, file)

    def make_room(self, size: int) -> None:
        """Removes what was not used for longest, as far as nobody holds it, until `size` more bytes fit."""
        with self._scanning:
            if size > self._spare or self.overfull:
                copies = sorted(self._copies())
                total = sum(size for _, size, _ in copies)
                margin = self._most // MARGIN
                for _, length, path in copies:
                    if total + size + margin <= self._most:
                        break
                    if _removed(path):
                        total -= length
                self.overfull = total + size > self._most
                self._spare = min(margin, max(0, self._most - total - size))
            else:
                self._spare -= size

    def remove(self, sha256: str) -> None:
        """Unless somebody holds it."""
        _removed(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _copies(self) -> list[tuple[int, int, Path]]:
        """(when it was used last, size, path) of each."""
        copies: list[tuple[int, int, Path]] = []
        for shelf in os.scandir(self._folder):
            if shelf.name.startswith("."):
                continue
            for copy in os.scandir(shelf):
                with suppress(FileNotFoundError):
                    status = copy.stat()
                    copies.append((status.st_mtime_ns, status.st_size, Path(copy.path)))
        return copies


def _removed(path: Path) -> bool:
    """False where somebody holds it. The lock is taken before the name goes: whoever opened it before, and
    gets the lock afterwards, sees that it has no name any more."""
    try:
        with path.open("rb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
