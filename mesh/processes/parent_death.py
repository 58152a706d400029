"""Ends a child process together with its parent, even if the parent is killed by SIGKILL.

On Linux the kernel does it (PR_SET_PDEATHSIG). Elsewhere the parent keeps a pipe to the child's standard
input open and never writes to it; once the parent has ended, so does the pipe, and a launcher kills the
command.

Imports only the standard library, because this module is also that launcher:
`python -I -S parent_death.py kernel|pipe PARENT_PID UID:GID|- COMMAND...`
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Never

WAY = "kernel" if sys.platform == "linux" else "pipe"
PR_SET_PDEATHSIG = 1
# Exit status of a child whose parent ended before the child could be tied to it.
ORPHANED = 125


def tied_to_parent(
    command: Sequence[str], within: Sequence[str] = (), user: tuple[int, int] | None = None
) -> list[str]:
    """The command line that runs `command` and ends it when this process ends.

    Start it with a pipe as standard input, and keep the pipe open. `within` is a command that runs its
    arguments by exec, such as `unshare`. With `user`, a uid and a gid, root runs the command as that user,
    which need not be able to read this module or to run this Python.
    """
    ids = f"{user[0]}:{user[1]}" if user else "-"
    return [*within, sys.executable, "-I", "-S", __file__, WAY, str(os.getpid()), ids, *command]


def die_with_parent(parent: int) -> None:
    """On Linux, has the kernel kill this process when `parent`, the process that started it, ends.

    Exits with status 125 if that has happened already: the kernel sends no signal for a parent that ended
    before it was asked to.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def main() -> int:
    way, parent, ids, *command = sys.argv[1:]
    uid, gid = (None, None) if ids == "-" else map(int, ids.split(":"))
    if way == "pipe":
        return _run_until_input_ends(command, uid, gid)
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    die_with_parent(int(parent))  # afterwards, because a change of the user undoes it
    return _execute(command)


def _execute(command: list[str]) -> Never:
    # Python ignores these, and a program keeps ignoring what was ignored when it was executed.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def _run_until_input_ends(command: list[str], uid: int | None, gid: int | None) -> int:
    """Runs the command, passes SIGTERM and SIGINT on to it, and kills it at the end of standard input."""
    import subprocess
    import threading

    groups = None if uid is None else ()
    child = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, user=uid, group=gid, extra_groups=groups
    )
    for passed_on in (signal.SIGTERM, signal.SIGINT):
        signal.signal(passed_on, lambda number, _: child.send_signal(number))

    def kill_at_the_end() -> None:
        while os.read(0, 1024):
            pass
        child.kill()

    threading.Thread(target=kill_at_the_end, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
