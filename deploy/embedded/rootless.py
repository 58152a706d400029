"""Runs PostgreSQL without root, which it refuses to run as. Lares may be root, for example in a container."""

import asyncio
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mesh.problems import Denied, Unavailable
from mesh.processes import parent_death
from mesh.processes.child_process import run_command

OTHER_USERS = ("postgres", "nobody")
CHECK_SECONDS = 60.0


@dataclass(frozen=True)
class Rootless:
    """How to run a command without root: with `within` before it, or as `user`. Its files belong to `user`,
    or to the user of Lares if that is None."""

    within: tuple[str, ...] = ()
    user: pwd.struct_passwd | None = None

    @property
    def owner(self) -> int | None:
        return self.user.pw_uid if self.user else None

    @property
    def ids(self) -> tuple[int, int] | None:
        """The uid and the gid of `user`."""
        return (self.user.pw_uid, self.user.pw_gid) if self.user else None

    async def require_access(self, programs: Path, home: Path) -> None:
        """Raises Denied, and names the folder, if the command's user cannot get to PostgreSQL's `programs`
        (PROGRAMS_NOT_CROSSABLE) or execute them there (PROGRAMS_NOT_EXECUTABLE), or cannot get to the home,
        which need not exist (HOME_NOT_CROSSABLE). Changes nothing."""
        needed = [(programs, "-x")]
        if self.within:  # what runs them does so within it, too
            needed += [(Path(sys.executable), "-x"), (Path(parent_death.__file__), "-r")]
        for path, test in needed:
            if not await self._reaches(path, test):
                closed, purpose = self._closed_folder(path), f"to run {path}"
                if closed is None:
                    raise self._not_executable(
                        path, "its mode, or how its file system is mounted, forbids it"
                    )
                raise self._denied("PROGRAMS_NOT_CROSSABLE", closed, purpose, "install Lares elsewhere")
        home = home.resolve()
        above = next(parent for parent in home.parents if os.path.exists(parent))
        entered = [above]
        if os.path.exists(home) and not (self.user and home.stat().st_uid == os.geteuid()):
            entered.append(home)  # `take` does not open it
        for folder in entered:
            if not await self._reaches(folder, "-x"):
                closed = self._closed_folder(folder / "postgres") or folder
                raise self._denied("HOME_NOT_CROSSABLE", closed, "to get to its data", "move LARES_HOME")

    async def _reaches(self, path: Path, test: str) -> bool:
        """Not by the mode alone: access may also be given by a group or an access control list."""
        if not self.within and not self.user:
            return os.access(path, os.X_OK if test == "-x" else os.R_OK)
        return (await self._run("test", test, str(path))).returncode == 0

    async def require_running(self, program: Path, *arguments: str) -> None:
        """Raises Denied PROGRAMS_NOT_EXECUTABLE if the program fails as the command's user: its libraries
        may be closed to that user."""
        ran = await self._run(str(program), *arguments)
        if ran.returncode:
            raise self._not_executable(program, ran.stderr.strip())

    async def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        # Not by `run_command`, whose Python is one of the programs in question.
        uid, gid = self.ids or (None, None)
        groups, words = None if uid is None else (), [*self.within, *command]
        run = partial(
            subprocess.run, words, capture_output=True, errors="replace", timeout=CHECK_SECONDS, check=False
        )
        return await asyncio.to_thread(run, user=uid, group=gid, extra_groups=groups)

    def _closed_folder(self, path: Path) -> Path | None:
        """The first folder on the way to `path` that the command's user cannot enter, links included."""
        uid, gid = self.ids or (os.geteuid(), os.getegid())
        return next((folder for folder in _folders(path) if not _may_enter(folder, uid, gid)), None)

    @property
    def _name(self) -> str:
        us = "root without privileges" if os.geteuid() == 0 else f"uid {os.geteuid()}"
        return self.user.pw_name if self.user else us

    def _not_executable(self, path: Path, why: str) -> Denied:
        problem = f"PostgreSQL runs as {self._name}, which cannot execute {path} ({why})"
        advice = "install Lares elsewhere, or with umask 022, or run it as another user"
        return Denied(f"{problem}: {advice}", "PROGRAMS_NOT_EXECUTABLE", folder=str(path.parent))

    def _denied(self, reason: str, folder: Path, purpose: str, advice: str) -> Denied:
        problem = f"PostgreSQL runs as {self._name}, which cannot enter {folder} {purpose}"
        message = f"{problem}: chmod o+x {folder}, {advice}, or run Lares as another user"
        return Denied(message, reason, folder=str(folder))

    def take(self, *folders: Path) -> None:
        """Gives the folders and their content to the command's user, and lets that user enter the parent
        folder. Raises Denied HOME_NOT_CROSSABLE if the user cannot enter a folder above it."""
        for folder in folders:
            if self.user:
                self._let_through(self.user, folder.absolute().parent)
            uid, gid = self.ids or (os.geteuid(), os.getegid())
            if folder.stat().st_uid != uid:
                # The folder itself last, because its owner shows that all the content has been given away.
                for path in (*folder.rglob("*"), folder):
                    os.chown(path, uid, gid, follow_symlinks=False)

    def _let_through(self, user: pwd.struct_passwd, home: Path) -> None:
        for parent in reversed(home.parents):
            if not _may_enter(parent, user.pw_uid, user.pw_gid):
                raise self._denied("HOME_NOT_CROSSABLE", parent, "to get to its data", "move LARES_HOME")
        if home.stat().st_uid == os.geteuid():
            home.chmod(home.stat().st_mode | 0o001)


def _folders(path: Path) -> Iterator[Path]:
    """The folders on the way to `path` from the root, then those on the way to what a link points to."""
    for place in dict.fromkeys([path.absolute(), *_targets(path.absolute()), path.resolve()]):
        yield from (folder.resolve() for folder in reversed(place.parents) if os.path.exists(folder))


def _targets(path: Path) -> Iterator[Path]:
    for _ in range(40):  # as many as Linux follows
        if not path.is_symlink():
            return
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path


def _may_enter(folder: Path, uid: int, gid: int) -> bool:
    """By the mode of the folder, for a user in one group."""
    state = folder.stat()
    shift = 6 if state.st_uid == uid else 3 if state.st_gid == gid else 0
    return bool(state.st_mode >> shift & 1)


def _other_user() -> pwd.struct_passwd | None:
    for name in OTHER_USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def namespace() -> tuple[str, ...]:
    """What runs a command in a user namespace. Within it the process is not root; outside it, its files
    belong to root, so that a home under /root works, too."""
    user = _other_user()  # initdb needs one that the system knows
    uid, gid = (user.pw_uid, user.pw_gid) if user else (1000, 1000)
    return "unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--"


async def find_rootless(*, namespaces: bool = True) -> Rootless:
    """How to run without root: as it is if Lares is not root, else in a user namespace, else (some containers
    refuse it) as another user. Raises Unavailable NO_USER."""
    if os.geteuid() != 0:
        return Rootless()
    if namespaces and sys.platform == "linux" and shutil.which("unshare"):
        try:
            await run_command(["true"], namespace(), seconds=CHECK_SECONDS)
        except Unavailable:
            pass
        else:
            return Rootless(namespace())
    if user := _other_user():
        return Rootless(user=user)
    raise Unavailable("PostgreSQL does not run as root, and this system has no user to run it as", "NO_USER")
