"""Runs PostgreSQL without root, which it refuses to run as. Lares may be root, for example in a container."""

import os
import pwd
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mesh.problems import Denied, Unavailable
from mesh.processes.child_process import run_command

# Within the namespace the process is not root. Outside it, its files belong to root, so that a home under
# /root works, too.
NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
OTHER_USERS = ("postgres", "nobody")


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

    def take(self, *folders: Path) -> None:
        """Gives the folders and their content to the command's user, and lets that user enter the parent
        folder. Raises Denied HOME_NOT_CROSSABLE if the user cannot enter a folder above it."""
        for folder in folders:
            if self.user:
                _let_through(self.user.pw_name, folder.absolute().parent)
            uid, gid = self.ids or (os.geteuid(), os.getegid())
            if folder.stat().st_uid != uid:
                # The folder itself last, because its owner shows that all the content has been given away.
                for path in (*folder.rglob("*"), folder):
                    os.chown(path, uid, gid, follow_symlinks=False)


def _let_through(user: str, home: Path) -> None:
    for parent in home.parents:
        if not parent.stat().st_mode & 0o001:
            message = f"PostgreSQL runs as {user}, which cannot enter {parent}: chmod o+x it,"
            raise Denied(f"{message} move LARES_HOME, or run Lares as another user", "HOME_NOT_CROSSABLE")
    if home.stat().st_uid == os.geteuid():
        home.chmod(home.stat().st_mode | 0o001)


async def find_rootless(*, namespaces: bool = True) -> Rootless:
    """How to run without root: as it is if Lares is not root, else in a user namespace, else (some containers
    refuse it) as another user. Raises Unavailable NO_USER."""
    if os.geteuid() != 0:
        return Rootless()
    if namespaces and sys.platform == "linux" and shutil.which("unshare"):
        try:
            await run_command(["true"], NAMESPACE, seconds=60)
        except Unavailable:
            pass
        else:
            return Rootless(NAMESPACE)
    for name in OTHER_USERS:
        try:
            return Rootless(user=pwd.getpwnam(name))
        except KeyError:
            continue
    raise Unavailable("PostgreSQL does not run as root, and this system has no user to run it as", "NO_USER")
