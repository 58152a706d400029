"""The home folder: one Lares at a time, closed to other users."""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesh.problems import Conflict, Denied

# A Unix socket's path holds 107 bytes; the longest name we put into the folder is `.s.PGSQL.5432`.
LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432")


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Makes `home` and its `run/`, and holds them until the block or the process ends.

    Raises Conflict HOME_IN_USE with the holder's pid.
    """
    with (private_folder(home, "run") / "lares.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            message = f"another Lares (pid {pid}) runs on {home}: stop it, or choose another LARES_HOME"
            raise Conflict(message, "HOME_IN_USE", pid=pid, home=str(home)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def private_folder(home: Path, name: str) -> Path:
    """`<home>/<name>`, made with mode 0700 when missing, like the home itself."""
    for folder in (home, home / name):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Denied(f"cannot make {folder}: {error.strerror}", "HOME_NOT_WRITABLE") from None
    return home / name


def private_socket_folder(home: Path, name: str = "run", *, owner: int | None = None) -> Path:
    """Where Unix sockets lie: `<home>/<name>`, or, where that path is too long for a socket, a short folder
    that is always the same for this one. Raises Denied when that is neither ours nor of `owner`, a uid."""
    folder = home / name
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
        return private_folder(home, name)
    short = f"lares-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}"
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if len(os.fsencode(base / short)) > LONGEST_SOCKET_FOLDER or not base.is_dir():
        base = Path("/tmp")  # noqa: S108  # the folder is checked below
    with suppress(FileExistsError):
        (base / short).mkdir(mode=0o700)
    found = (base / short).lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (os.getuid(), owner):
        message = f"{base / short} belongs to someone else, or is open to others: remove it"
        raise Denied(message, "SOCKET_FOLDER")
    return base / short
