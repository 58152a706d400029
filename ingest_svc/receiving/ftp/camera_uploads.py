"""Where files that arrive by FTP are written: in their camera's folder, hidden until they are whole and
durable. From there the watcher of the cameras folder takes them.

Everything blocks, and any thread may use it. Links below a camera's folder are not followed.
"""

import errno
import os
import secrets
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.receiving.ftp.maker_tests import MAX_BYTES, is_maker_test
from ingest_svc.receiving.ftp.paths import BadName, parts, require_taken
from ingest_svc.watching.ignored_names import IgnoredNames
from mesh.file_lock import try_lock

# In each camera's folder; the watcher ignores it.
HIDDEN_FOLDER = ".lares.ftp"
# An upload that is not continued within this time is removed.
EXPIRE_SECONDS = 3600.0
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
WRITTEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# What file systems without hard links answer, such as exFAT.
WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class KeptFile:
    """A file that has arrived: `path` is where it lies in its camera's folder, empty if it was dropped,
    because it is the test of a camera's maker or has no content."""

    path: str
    size: int
    at: float


class CameraUploads:
    """`away` says why nothing can be written to the cameras folder now; empty if it is there."""

    def __init__(
        self, root: CamerasRoot, ignored: IgnoredNames, max_bytes: int, away: Callable[[], str]
    ) -> None:
        self._root, self._ignored, self.max_bytes, self._away = root, ignored, max_bytes, away
        self._open = set[tuple[str, str]]()
        # Held while `_open` changes, and while it is compared with what lies there.
        self._opening = threading.Lock()

    def start(self, folder: str, path: str, offset: int | None = 0) -> "Upload":
        """Begins to write a file, or goes on with one at `offset`; None is its end.

        Raises BadName if no file of this path is taken, or if one that goes on has arrived already; OSError,
        with EBUSY if it is being written, and with EINVAL if less has arrived.
        """
        require_taken(folder, path, self._ignored)
        self._require_folder()
        if offset is None and self._exists(folder, path):
            raise BadName("this file has arrived, and is not changed")
        key = (folder, path)
        with self._opening:
            if key in self._open:
                raise OSError(errno.EBUSY, "it is being written")
            self._open.add(key)
        try:
            with self._hidden_folder(folder) as hidden:
                descriptor = _open_alone(_hidden_name(path), hidden)
            size = os.fstat(descriptor).st_size
            upload = Upload(self, folder, path, descriptor, size if offset is None else offset)
            if size < upload.size:
                upload.close()
                raise OSError(errno.EINVAL, f"only {size} bytes have arrived")
            os.ftruncate(descriptor, upload.size)
            os.lseek(descriptor, upload.size, os.SEEK_SET)
        except BaseException:
            self._forget(key)
            raise
        return upload

    def arrived(self, folder: str, path: str) -> int | None:
        """How much of an unfinished file there is."""
        with suppress(OSError), self._hidden_folder(folder, make=False) as hidden:
            return os.stat(_hidden_name(path), dir_fd=hidden, follow_symlinks=False).st_size
        return None

    def rename(self, folder: str, path: str, to: str) -> str:
        """Gives an upload that its camera has called unfinished its name. Returns where it lies then, which
        is never in the place of another file.

        Raises BadName and OSError.
        """
        require_taken(folder, to, self._ignored)
        self._require_folder()
        *folders, name = parts(path)
        with self._folder(folder, folders) as source:
            return self._place(folder, source, name, to)

    def expire(self, now: float) -> None:
        """Removes unfinished files that nobody goes on with."""
        with suppress(OSError):
            for camera in os.listdir(self._root.path):
                with (
                    suppress(OSError),
                    self._hidden_folder(camera, make=False) as hidden,
                    self._opening,
                ):
                    writing = {_hidden_name(path) for folder, path in self._open if folder == camera}
                    for name in set(os.listdir(hidden)) - writing:
                        if now - os.stat(name, dir_fd=hidden).st_mtime > EXPIRE_SECONDS:
                            os.unlink(name, dir_fd=hidden)

    def keep(self, upload: "Upload") -> KeptFile:
        """Makes a whole file durable, under its name. Raises OSError; the file stays hidden then."""
        self._require_folder()
        name = parts(upload.path)[-1]
        with self._hidden_folder(upload.folder) as hidden:
            if not upload.size or is_maker_test(name, upload.size, upload.head()):
                os.unlink(_hidden_name(upload.path), dir_fd=hidden)
                return KeptFile("", upload.size, time.time())
            os.fsync(upload.descriptor)
            path = self._place(
                upload.folder, hidden, _hidden_name(upload.path), upload.path, placed=upload.close
            )
        return KeptFile(path, upload.size, time.time())

    def closed(self, upload: "Upload") -> None:
        self._forget((upload.folder, upload.path))

    def _forget(self, key: tuple[str, str]) -> None:
        with self._opening:
            self._open.discard(key)

    def _place(
        self, folder: str, source: int, name: str, path: str, placed: Callable[[], None] = lambda: None
    ) -> str:
        """Renames the file `name` in the folder `source` to `path`, or, if there is a file already, to a
        name like it: a camera that sends every picture by one name must not overwrite one that is not taken
        in yet. Makes the name durable. `placed` closes the file, if it is open: not before it has its name,
        because until then its lock keeps others away."""
        *folders, wanted = parts(path)
        with self._folder(folder, folders) as target:
            free = _renamed(name, source, wanted, target)
            os.fsync(target)
            placed()
            # The watcher takes a file at once when it is closed after writing, and not when it is linked.
            with suppress(OSError):  # it has taken it already
                os.close(os.open(free, WRITTEN, dir_fd=target))
        return "/" + "/".join([*folders, free])

    def _exists(self, folder: str, path: str) -> bool:
        *folders, name = parts(path)
        with suppress(OSError), self._folder(folder, folders, make=False) as found:
            return _is_there(name, found)
        return False

    def _require_folder(self) -> None:
        away = self._away()
        if away:
            raise OSError(errno.EIO, away)

    def _hidden_folder(self, folder: str, make: bool = True) -> AbstractContextManager[int]:
        return self._folder(folder, [HIDDEN_FOLDER], make)

    @contextmanager
    def _folder(self, folder: str, below: list[str], make: bool = True) -> Iterator[int]:
        """Yields a descriptor of a folder of a camera. What is missing of it is made, and durable."""
        if make and not self._root.is_link(folder):
            cameras = os.open(self._root.path, FOLDER)
            try:
                _make(folder, cameras)
            finally:
                os.close(cameras)
        current = os.open(self._root.full(folder), FOLDER)
        try:
            for name in below:
                if make:
                    _make(name, current)
                inner = os.open(name, FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)


class Upload:
    """A file that is being written. `path` is what its camera calls it."""

    def __init__(self, uploads: CameraUploads, folder: str, path: str, descriptor: int, size: int) -> None:
        self._uploads, self.folder, self.path = uploads, folder, path
        self.descriptor, self.size = descriptor, size
        self.closed = False

    @property
    def name(self) -> str:
        return self.path

    def write(self, chunk: bytes) -> None:
        """Raises OSError, with EFBIG if the file is larger than any that is taken."""
        if self.size + len(chunk) > self._uploads.max_bytes:
            raise OSError(errno.EFBIG, "the file is too large")
        left = memoryview(chunk)
        while left:
            written = os.write(self.descriptor, left)
            left = left[written:]
            self.size += written

    def head(self) -> bytes:
        return os.pread(self.descriptor, MAX_BYTES, 0)

    def keep(self) -> KeptFile:
        """Makes the file durable under its name, and closes it. Raises OSError."""
        try:
            return self._uploads.keep(self)
        finally:
            self.close()

    def close(self) -> None:
        """Leaves what has arrived, so that the camera can go on."""
        if not self.closed:
            self.closed = True
            os.close(self.descriptor)
            self._uploads.closed(self)


def _make(name: str, parent: int) -> None:
    """Makes a folder, durably, unless there is one."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        os.fsync(parent)


def _hidden_name(path: str) -> str:
    """The same for one path, so that an upload can go on, over another connection or after a restart, too."""
    return sha256(os.fsencode(path)).hexdigest()[:32]


def _open_alone(name: str, folder: int) -> int:
    """Opens the hidden file `name` for writing, and makes it if there is none. Raises OSError with EBUSY if
    another process has it open, on any machine that mounts the folder."""
    while True:
        descriptor = os.open(name, FILE, 0o666, dir_fd=folder)
        try:
            if not _try_lock(descriptor):
                raise OSError(errno.EBUSY, "it is being written")
            opened = os.fstat(descriptor)
            if opened.st_nlink == 1 and _same_file(opened, name, folder):
                return descriptor
            if opened.st_nlink > 1 and _same_file(opened, name, folder):  # a kill has left both names
                os.unlink(name, dir_fd=folder)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it is complete by now, and has its name


def _try_lock(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except OSError:  # a file system without locks
        return True


def _same_file(opened: os.stat_result, name: str, folder: int) -> bool:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(opened, there)


def _renamed(name: str, source: int, wanted: str, target: int) -> str:
    """Renames a file, and returns its new name, which is another one if `wanted` exists. By a link, which
    never replaces a file, whoever makes one at the same time, on any machine that mounts the folder."""
    free = wanted
    while True:
        try:
            os.link(name, free, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except FileExistsError:
            free = _like(wanted)
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            if not _is_there(free, target):
                os.rename(name, free, src_dir_fd=source, dst_dir_fd=target)
                return free
            free = _like(wanted)
        else:
            os.unlink(name, dir_fd=source)
            return free


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _like(name: str) -> str:
    """Without digits, which could be read as a time."""
    stem, _, suffix = name.rpartition(".")
    mark = "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
    return f"{stem}~{mark}.{suffix}" if stem else f"{name}~{mark}"
