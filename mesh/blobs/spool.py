"""Files that are being written. What a killed process left of them goes when the folder is opened again."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from mesh.problems import Conflict

FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, where the file system can
BUFFER_BYTES = 256 * 1024
# Written to the disk on the way, so that the commit of a large file does not hold up those of small ones.
SYNC_BYTES = 64 * 2**20

_threads = threading.local()


class Blob(NamedTuple):
    """Content by its name, the SHA-256 in lower-case hex, and its size in bytes."""

    sha256: str
    size: int


class SpoolFailed(OSError):
    """The disk of the spool refuses: no fault of what is read."""


class Spool:
    """A folder for many processes at once: whoever writes a file holds its lock, which the kernel frees when
    the process dies. Where the file system has no locks, nothing is cleared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            with suppress(OSError), left.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()

    def create(self) -> FileIO:
        """A new file that is locked, to write and to read; `name` is its path. Raises OSError."""
        while True:
            file = (self._folder / uuid4().hex).open("xb+", buffering=0)
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # taken for left behind, before it had its lock


class SpooledFile:
    """Content on its way into the blobs: one file of the spool, hashed while it is written.

    Made by `Blobs.spooled`. `write`, `copy` and `read` block; they may run in any thread, one at a time. They
    raise SpoolFailed when the disk refuses, and ValueError once the block of `Blobs.spooled` has ended.
    """

    def __init__(self, spool: Callable[[], Spool], store: "Callable[[SpooledFile], Awaitable[None]]") -> None:
        self._spool, self._store = spool, store
        self._hash, self._size, self._synced = hashlib.sha256(), 0, 0
        self._file: FileIO | None = None
        self._lock, self._closed = threading.Lock(), False

    @property
    def blob(self) -> Blob:
        """Of what was written so far."""
        return Blob(self._hash.hexdigest(), self._size)

    def write(self, chunk: bytes) -> None:
        """Appends."""
        with self._open() as file:
            self._append(file, memoryview(chunk))

    def copy(self, source: BinaryIO, most: int | None = None) -> None:
        """Appends what `source` holds from its position on, at most `most` bytes. Shares the extents of a
        whole file where the file system can. Raises the source's own OSError, too."""
        with self._open() as file:
            if not self._size and _cloned(source, file, most):
                for piece in _pieces(file, None):
                    self._require_open()
                    self._hash.update(piece)
                    self._size += len(piece)
            else:
                for piece in _pieces(source, most):
                    self._require_open()
                    self._append(file, piece)

    def read(self, start: int, length: int) -> bytes:
        """Less than `length` only at the end."""
        with self._open() as file, _spool_failed():
            return read_at(file.fileno(), start, length)

    async def store(self, expect: Blob | None = None) -> Blob:
        """Makes it a blob; durable when this returns, and then there is nothing more to read here. Raises
        Conflict CONTENT_CHANGED where it is not what was expected, and what the blobs raise."""
        if expect is not None and expect != self.blob:
            raise Conflict("the content is not what was expected", "CONTENT_CHANGED")
        await self._store(self)
        return self.blob

    def sync(self) -> None:
        """Makes what was written durable, with the present as its time, but no name of it. Blocks. Raises
        OSError."""
        with self._open() as file:
            os.utime(file.fileno())
            os.fsync(file.fileno())

    def rename(self, path: Path) -> None:
        """Puts the file there, in the place of what may be there. Blocks. Raises OSError."""
        with self._open() as file:
            os.rename(file.name, path)
            self._closed = True

    def link(self, path: Path) -> FileIO:
        """Puts the file there and hands it over, open and locked. Blocks. Raises FileExistsError where there
        is one, OSError."""
        with self._open() as file:
            os.link(file.name, path)
            os.unlink(file.name)
            self._file, self._closed = None, True
            return file

    def close(self) -> bool:
        """Ends all use, also that under way in a thread. Returns whether `discard` remains to be called."""
        self._closed = True
        return self._file is not None

    def discard(self) -> None:
        """Removes the file, unless it was renamed: at once, or when the thread that uses it lets go of it.
        Blocks."""
        if self._lock.acquire(blocking=False):
            try:
                file, self._file = self._file, None
                if file is not None:
                    Path(file.name).unlink(missing_ok=True)
                    file.close()
            finally:
                self._lock.release()

    @contextmanager
    def _open(self) -> Iterator[FileIO]:
        try:
            with self._lock:
                self._require_open()
                if self._file is None:
                    with _spool_failed():
                        self._file = self._spool().create()
                yield self._file
        finally:
            if self._closed:
                self.discard()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the content is no longer wanted")

    def _append(self, file: FileIO, piece: memoryview) -> None:
        self._hash.update(piece)
        self._size += len(piece)
        with _spool_failed():
            while piece:
                piece = piece[file.write(piece) :]
            if self._size - self._synced >= SYNC_BYTES:
                os.fdatasync(file.fileno())
                self._synced = self._size


@contextmanager
def _spool_failed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolFailed(error.errno, error.strerror) from error


def digest(source: BinaryIO, most: int) -> Blob:
    """Of what `source` holds from its position on, at most `most` bytes. Blocks. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(source, most):
        digest.update(piece)
        size += len(piece)
    return Blob(digest.hexdigest(), size)


def read_at(descriptor: int, start: int, length: int) -> bytes:
    """Less than `length` only at the end of the file. Blocks. Raises OSError."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _pieces(source: BinaryIO, most: int | None) -> Iterator[memoryview]:
    """All pieces lie in this thread's one buffer: a piece is gone when the next one is asked for."""
    buffer = getattr(_threads, "buffer", None)
    if buffer is None:
        buffer = _threads.buffer = memoryview(bytearray(BUFFER_BYTES))
    while most is None or most > 0:
        length: int = source.readinto(buffer if most is None else buffer[:most])  # type: ignore[attr-defined]
        if not length:
            return
        if most is not None:
            most -= length
        yield buffer[:length]


def _cloned(source: BinaryIO, target: FileIO, most: int | None) -> bool:
    """Whether `target` is now a copy of the whole file `source`, as it is at this moment."""
    try:
        if source.tell() or (most is not None and os.fstat(source.fileno()).st_size > most):
            return False
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError:  # io.UnsupportedOperation is one
        return False
    return True
