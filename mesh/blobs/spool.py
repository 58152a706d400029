"""Files that are being written. Opening the folder removes what killed processes have left in it."""

import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from mesh.file_lock import lock, try_lock
from mesh.problems import Conflict

FICLONE = 0x40049409  # linux/fs.h: share the extents of another file, if the file system can
# Most photos fit into the buffer, so that they are read and written in one piece.
BUFFER_BYTES = 2**20
# Large files are flushed at this interval, so that their commits do not delay those of small ones.
SYNC_BYTES = 64 * 2**20

_threads = threading.local()


class Blob(NamedTuple):
    """The name of a content, which is its SHA-256 in lower-case hex, and its size in bytes."""

    sha256: str
    size: int


class SpoolFailed(OSError):
    """The disk of the spool failed, not the source that was read."""


class Spool:
    """A folder that several processes may use at the same time.

    A process holds the lock of each file that it writes; the kernel releases it if the process dies. If the
    file system has no locks, leftover files are not removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            with suppress(OSError), left.open("rb+") as file:
                if try_lock(file):
                    left.unlink()
        # Earlier versions kept what had arrived of uploads there.
        shutil.rmtree(folder.with_name(".partial"), ignore_errors=True)

    def free_bytes(self) -> tuple[int, int]:
        """How much of the disk is free for this process, and its size. Raises OSError."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def create(self) -> FileIO:
        """Returns a new, locked file that is open for writing and reading. Its `name` is its path. Raises
        OSError."""
        while True:
            file = FileIO(os.path.join(self._folder, uuid4().hex), "xb+")
            with suppress(OSError):
                lock(file)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # another process took it for a leftover before it was locked


class SpooledFile:
    """Content on its way into the blobs: a file of the spool that is hashed while it is written.

    Created by `Blobs.spooled`. `write`, `copy` and `read` block. They may be called from any thread, one at a
    time, and raise SpoolFailed if the disk fails, and ValueError after the block of `Blobs.spooled`.
    """

    def __init__(self, spool: Callable[[], Spool], store: "Callable[[SpooledFile], Awaitable[None]]") -> None:
        self._spool, self._store = spool, store
        self._size = self._synced = 0
        self._hash = hashlib.sha256()
        self._file: FileIO | None = None
        self._lock, self._closed = threading.Lock(), False
        # False once it is certain that the content was not stored before.
        self.may_be_known = True

    @property
    def blob(self) -> Blob:
        """Name and size of the content written so far."""
        return Blob(self._hash.hexdigest(), self._size)

    @property
    def size(self) -> int:
        return self._size

    @property
    def path(self) -> str:
        """Where the content is until it is stored, for a child process that reads it. Raises ValueError if
        nothing was written."""
        file = self._file
        if file is None:
            raise ValueError("the spooled file is empty or closed")
        return str(file.name)

    def write(self, chunk: bytes) -> None:
        """Appends `chunk`."""
        with self._open() as file:
            self._append(file, memoryview(chunk))

    def copy(self, source: BinaryIO, most: int | None = None) -> memoryview | None:
        """Appends at most `most` bytes of `source`, from its position on.

        If that is the whole content and fits into this thread's buffer, it is returned, and can be read until
        the thread copies again. Shares the extents of a whole file if the file system can. Also raises the
        OSError of `source`.
        """
        piece: memoryview | None = None
        with self._open() as file:
            if not self._size and _clone(source, file, most):
                digest = self._hash = hashlib.sha256()
                for piece in _pieces(file, None):
                    self._require_open()
                    digest.update(piece)
                    self._size += len(piece)
            else:
                for piece in _pieces(source, most):
                    self._require_open()
                    self._append(file, piece)
        return piece if piece is not None and len(piece) == self._size else None

    def descriptor(self) -> int:
        """For a process that writes the content, which is counted by `written` afterwards. Open within the
        block of `Blobs.spooled`."""
        with self._open() as file:
            return file.fileno()

    def written(self) -> Blob:
        """Hashes the whole content of the file, whoever has written it. Nobody else may write any more."""
        with self._open() as file, _disk_errors():
            file.seek(0)
            digest = hashlib.sha256()
            self._size = 0
            for piece in _pieces(file, None):
                self._require_open()
                digest.update(piece)
                self._size += len(piece)
            self._hash = digest
            return self.blob

    def read(self, start: int, length: int) -> bytes:
        """Returns fewer bytes than `length` only at the end of the content."""
        with self._open() as file, _disk_errors():
            return read_at(file.fileno(), start, length)

    async def store(self, expect: Blob | None = None) -> Blob:
        """Stores the content as a blob and returns when it is durable. It cannot be read here afterwards.

        Raises Conflict CONTENT_CHANGED if the content is not `expect`, and what the blobs raise.
        """
        if expect is not None and expect != self.blob:
            raise Conflict("the content is not what was expected", "CONTENT_CHANGED")
        await self._store(self)
        return self.blob

    def begin_sync(self) -> None:
        """Gives the content the present as its time, and lets the disk begin to write it: then `sync` of
        several files, one after another, takes little longer than of one. Blocks. Raises OSError."""
        with self._open() as file:
            now = time.time_ns()
            os.utime(file.fileno(), ns=(now, now))  # without `ns`, up to 10 ms earlier: by a coarse clock
            if hasattr(os, "posix_fadvise"):
                # Linux begins to write what is not on the disk; only then would it drop pages that are.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Makes the content and its time durable, after `begin_sync`; its name is not made durable. Blocks.
        Raises OSError."""
        with self._open() as file:
            os.fsync(file.fileno())

    def rename(self, path: Path) -> None:
        """Moves the file to `path`, replacing a file that exists. Blocks. Raises OSError."""
        with self._open() as file:
            self.may_be_known = path.exists()
            os.rename(file.name, path)
            self._file, self._closed = None, True
            file.close()

    def link(self, path: Path) -> FileIO:
        """Moves the file to `path` and returns it, open and locked. Blocks. Raises FileExistsError if `path`
        exists, OSError."""
        with self._open() as file:
            os.link(file.name, path)
            os.unlink(file.name)
            self._file, self._closed = None, True
            return file

    def close(self) -> bool:
        """Ends all use, even in another thread. Returns whether `discard` has to be called."""
        self._closed = True
        return self._file is not None

    def discard(self) -> None:
        """Removes the file unless it was moved: now, or when the thread that uses it is finished. Blocks."""
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
                    with _disk_errors():
                        self._file = self._spool().create()
                yield self._file
        finally:
            if self._closed:
                self.discard()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the spooled file is closed")

    def _append(self, file: FileIO, piece: memoryview) -> None:
        self._hash.update(piece)
        self._size += len(piece)
        with _disk_errors():
            while piece:
                piece = piece[file.write(piece) :]
            if self._size - self._synced >= SYNC_BYTES:
                os.fdatasync(file.fileno())
                self._synced = self._size


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turns OSError into SpoolFailed."""
    try:
        yield
    except OSError as error:
        raise SpoolFailed(error.errno, error.strerror) from error


def digest(source: BinaryIO, most: int) -> Blob:
    """Returns name and size of at most `most` bytes of `source`, from its position on. Blocks. Raises
    OSError."""
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(source, most):
        digest.update(piece)
        size += len(piece)
    return Blob(digest.hexdigest(), size)


def read_at(descriptor: int, start: int, length: int) -> bytes:
    """Returns fewer bytes than `length` only at the end of the file. Blocks. Raises OSError."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _pieces(source: BinaryIO, most: int | None) -> Iterator[memoryview]:
    """Yields views of one buffer of this thread: a piece is overwritten when the next one is requested."""
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


def _clone(source: BinaryIO, target: FileIO, most: int | None) -> bool:
    """Makes `target` share the extents of the whole file `source`. Returns False if that is not possible."""
    try:
        if source.tell() or (most is not None and os.fstat(source.fileno()).st_size > most):
            return False
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError:  # includes io.UnsupportedOperation
        return False
    return True
