"""The home folder: used by one Lares at a time, and not accessible to other users."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesh.file_lock import try_lock
from mesh.problems import Conflict, Denied

# The path of a Unix socket has at most 107 bytes; the longest socket name in the folder is `.s.PGSQL.5432`.
LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432")


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Creates `home` and its `run/`, and locks them until the block or the process ends.

    Raises Conflict HOME_IN_USE with the pid of the process that has the lock.
    """
    with (private_folder(home, "run") / "lares.lock").open("a+") as file:
        if not try_lock(file):
            file.seek(0)
            pid = file.read().strip() or "unknown"
            message = f"another Lares (pid {pid}) runs on {home}: stop it, or choose another LARES_HOME"
            raise Conflict(message, "HOME_IN_USE", pid=pid, home=str(home))
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def restore_marker(home: Path) -> Path:
    """A file that exists while `lares restore` makes this home."""
    return home / ".restoring"


def require_restored(home: Path) -> None:
    """Raises Conflict RESTORE_UNFINISHED if a restore of this home was interrupted."""
    if restore_marker(home).exists():
        message = f"`lares restore` has not finished {home}: run it again"
        raise Conflict(message, "RESTORE_UNFINISHED", home=str(home))


def private_folder(home: Path, name: str) -> Path:
    """Returns `<home>/<name>`. Creates it and the home with mode 0700 if they are missing. Missing folders
    above the home let everybody through, whatever the umask: PostgreSQL may run as another user, and nothing
    else is in them. Raises Denied."""
    above = [parent for parent in reversed(home.absolute().parents) if not parent.exists()]
    for folder in (*above, home, home / name):
        try:
            folder.mkdir(mode=0o711 if folder in above else 0o700, exist_ok=True)
            if folder in above:
                folder.chmod(folder.stat().st_mode | 0o111)
        except OSError as error:
            raise Denied(f"cannot create {folder}: {error.strerror}", "HOME_NOT_WRITABLE") from None
    return home / name


def private_socket_folder(home: Path, name: str = "run", *, owner: int | None = None) -> Path:
    """Returns the folder for Unix sockets: `<home>/<name>`, or a short path that is always the same for this
    home, if the first one is too long for a socket.

    Raises Denied if the short folder does not belong to this user or to the uid `owner`, or is accessible to
    others.
    """
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
        message = f"{base / short} belongs to another user, or is accessible to others: remove it"
        raise Denied(message, "SOCKET_FOLDER")
    return base / short
