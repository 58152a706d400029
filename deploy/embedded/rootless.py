"""PostgreSQL refuses to run as root; Lares may be root, in a container for one."""

import os
import pwd
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mesh.problems import Denied, Unavailable
from mesh.processes.child_process import run_command

# Inside the namespace it is no root; outside the files stay root's, so a home under /root works too.
NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
STAND_INS = ("postgres", "nobody")


@dataclass(frozen=True)
class Rootless:
    """How to run a command as no root: `within` goes before it; its files are those of `user`, None: ours."""

    within: tuple[str, ...] = ()
    user: pwd.struct_passwd | None = None

    @property
    def owner(self) -> int | None:
        return self.user.pw_uid if self.user else None

    def take(self, *folders: Path) -> None:
        """Gives the folders, with all in them, to whom the command runs as, and lets him through the folder
        that holds them. Raises Denied HOME_NOT_CROSSABLE where he cannot get that far."""
        for folder in folders:
            if self.user:
                _let_through(self.user.pw_name, folder.absolute().parent)
            uid, gid = (self.user.pw_uid, self.user.pw_gid) if self.user else (os.geteuid(), os.getegid())
            if folder.stat().st_uid != uid:
                # The folder itself last: its owner says that the work is done.
                for path in (*folder.rglob("*"), folder):
                    os.chown(path, uid, gid, follow_symlinks=False)


def _let_through(user: str, home: Path) -> None:
    for parent in home.parents:
        if not parent.stat().st_mode & 0o001:
            message = f"PostgreSQL runs as {user}, who cannot cross {parent}: chmod o+x it,"
            raise Denied(f"{message} move LARES_HOME, or run Lares as another user", "HOME_NOT_CROSSABLE")
    if home.stat().st_uid == os.geteuid():
        home.chmod(home.stat().st_mode | 0o001)


async def find_rootless(*, namespaces: bool = True) -> Rootless:
    """Nothing unless we are root; then a user namespace, else (refused, as in some containers) a user."""
    if os.geteuid() != 0:
        return Rootless()
    if namespaces and sys.platform == "linux" and shutil.which("unshare"):
        try:
            await run_command(["true"], NAMESPACE, seconds=60)
        except Unavailable:
            pass
        else:
            return Rootless(NAMESPACE)
    for name in STAND_INS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        change = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--")
        return Rootless(change, user)
    raise Unavailable("PostgreSQL does not run as root, and there is no user to run it as", "NO_USER")
