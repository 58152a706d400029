"""What ties a child process to this one, and tells it from others that have its pid by chance."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mesh.problems import Unavailable

LAUNCHER = Path(__file__).with_name("pipe_launcher.py")
# PDEATHSIG never fires for a parent that died before it was set: so look who the parent is, after setting it.
STILL_OURS = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def tied_to_parent(command: Sequence[str], within: Sequence[str] = ()) -> list[str]:
    """The command that dies with this process: by the kernel on Linux, by a pipe on standard input elsewhere.
    `within` is a command that runs the rest by exec, such as `unshare`."""
    if sys.platform == "linux" and shutil.which("setpriv"):
        tie = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", STILL_OURS, str(os.getpid())]
        return [*within, *tie, *command]
    return [*within, sys.executable, "-I", str(LAUNCHER), *command]


async def run_command(
    command: Sequence[str],
    within: Sequence[str] = (),
    *,
    seconds: float = 180.0,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command to its end; raises Unavailable COMMAND_FAILED with the end of what it said."""
    process = await asyncio.create_subprocess_exec(
        *tied_to_parent(command, within),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(seconds):
            said = await process.stdout.read()
            status = await process.wait()
    except TimeoutError:
        said, status = b"it took too long", -1
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status:
        tail = "\n".join(said.decode(errors="replace").splitlines()[-12:])
        raise Unavailable(f"{Path(command[0]).name} failed (status {status}):\n{tail}", "COMMAND_FAILED")


def start_time(pid: int) -> str | None:
    """When this process was started, in whatever form the system says it; None when there is none alive."""
    try:
        if BOOT_ID.exists():
            state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if state in "ZX" else f"{BOOT_ID.read_text().strip()} {rest[18]}"
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None  # noqa: S603
    except OSError:
        return None
