"""Starts child processes, ends them in time, and starts them again when they end by themselves.

This is what the servers that Lares runs (`supervisor`) and the children of a sandbox (`sandbox`) have in
common. The rest of the two differs, so they are not one class: a server has a log file, a readiness check and
a pid file for the next start of Lares; a sandbox's child receives calls over pipes and is killed at once.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Never, Self

import structlog

from mesh.problems import Problem, Unavailable
from mesh.processes.parent_death import tied_to_parent
from mesh.retry import Backoff

log = structlog.get_logger(__name__)

RESTART_BACKOFF = Backoff(0.1, 5.0)
# After running for so long, a child's next end is no longer counted with the earlier ones.
STEADY_SECONDS = 30.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ChildProcess:
    """A running process in a session of its own, so that signals to Lares's terminal do not reach it.

    Ending it also ends what it has started, if that stayed in its process group.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        inherited: Collection[int] = (),
    ) -> Self:
        """Runs a command that ends with this process by itself: one made by `tied_to_parent`, or one that
        calls `die_with_parent`. Its standard input is a pipe, which stays open. It has the descriptors
        `inherited`, under the same numbers. Raises OSError."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                pass_fds=inherited,
                start_new_session=True,
            )
        )

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Only if it was started with a pipe there; so is `stderr`."""
        assert self._process.stdout
        return self._process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        assert self._process.stderr
        return self._process.stderr

    async def wait(self) -> int:
        """The exit status, once the process has ended."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kills the process and its group; does nothing if the process has ended."""
        if self.running:
            self._kill_group()

    async def stop(self, polite: signal.Signals, seconds: float) -> bool:
        """Sends `polite` to the process, and kills it after `seconds`. Returns whether it ended in time."""
        in_time = True
        try:
            self._send(polite)
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            in_time = False
        finally:
            # Also after an end in time: the process may have left others behind in its group.
            self._kill_group()
            await self.wait()
        return in_time

    def _send(self, number: signal.Signals) -> None:
        # Not by `send_signal` of the process: that may reap it before asyncio does, which then misses its
        # exit status.
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def keep_running(
    name: str,
    start: Callable[[], Awaitable[object]],
    ended: Callable[[], Awaitable[object]],
    backoff: Backoff = RESTART_BACKOFF,
) -> Never:
    """Starts a child again whenever it has ended, until cancelled.

    `ended` returns once the running child has ended. The pauses before a start grow with every start, failed
    ones included, until a child has run for 30 s.
    """
    loop = asyncio.get_running_loop()
    starts = 0
    while True:
        since = loop.time()
        await ended()
        if loop.time() - since > STEADY_SECONDS:
            starts = 0
        running = False
        while not running:
            starts += 1
            await asyncio.sleep(backoff.pause(starts))
            try:
                await start()
                running = True
            except (Problem, OSError) as error:
                log.error("child process not restarted, retrying", child=name, error=str(error))
        log.warning("child process restarted", child=name)


async def run_command(
    command: Sequence[str],
    within: Sequence[str] = (),
    *,
    user: tuple[int, int] | None = None,
    seconds: float = 180.0,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command to its end. Raises Unavailable COMMAND_FAILED, with the end of its output, if it fails
    or takes longer than `seconds`. `within` and `user` are as for `tied_to_parent`."""
    process = await ChildProcess.start(
        tied_to_parent(command, within, user),
        environment={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output = await process.stdout.read()
            status = await process.wait()
    except TimeoutError:
        output, status = b"it took too long", -1
    finally:
        process.kill()
        await process.wait()
    if status:
        tail = "\n".join(output.decode(errors="replace").splitlines()[-12:])
        raise Unavailable(f"{Path(command[0]).name} failed (status {status}):\n{tail}", "COMMAND_FAILED")


def start_time(pid: int) -> str | None:
    """When a process was started, in the system's own form; None if no process has this pid.

    Together with the pid it identifies a process: another one that gets the pid later has another start time.
    """
    try:
        if BOOT_ID.exists():
            state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if state in "ZX" else f"{BOOT_ID.read_text().strip()} {rest[18]}"
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None  # noqa: S603
    except OSError:
        return None
