"""Runs a server as a child process: starts it, waits until it is ready, and starts it again when it ends."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from mesh.problems import Unavailable
from mesh.processes.child_log import ChildLog
from mesh.processes.child_process import RESTART_BACKOFF, ChildProcess, keep_running, start_time
from mesh.processes.parent_death import tied_to_parent

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.02
LEFTOVER_SECONDS = 5.0


@dataclass(frozen=True)
class ChildSpec:
    """A server and how to run it.

    `prepare` is called before every start and returns the command. `ready` returns False or raises until the
    server can be used. `retry_start` receives the end of the log of a start that failed, and returns whether
    another one may succeed; all have `ready_seconds` together. `within` and `user` are as for
    `tied_to_parent`. `folder` holds the log and the pid file.
    """

    name: str
    folder: Path
    prepare: Callable[[], Awaitable[Sequence[str]]]
    ready: Callable[[], Awaitable[bool]]
    ready_seconds: float = 30.0
    retry_start: Callable[[str], bool] = lambda _: False
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    within: Sequence[str] = ()
    user: tuple[int, int] | None = None
    environment: tuple[tuple[str, str], ...] = ()


@asynccontextmanager
async def open_child(spec: ChildSpec) -> AsyncIterator["SupervisedChild"]:
    """Runs the server until the block ends. Enters the block when it is ready.

    Raises Unavailable CHILD_NOT_READY with the end of its log. Must be called on the main thread, because the
    kernel ties a child to the thread that started it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("child processes are started from the main thread")
    child = SupervisedChild(spec)
    restarts: asyncio.Task[None] | None = None
    try:
        await child.start()
        work = keep_running(spec.name, child.start, child.ended)
        restarts = asyncio.create_task(work, name=f"restarts of {spec.name}")
        yield child
    finally:
        if restarts is not None:
            restarts.cancel()
            await asyncio.gather(restarts, return_exceptions=True)
        await child.stop()


class SupervisedChild:
    """One server; its process changes when it is started again."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._log = ChildLog(spec.folder / f"{spec.name}.log")
        self._pid_file = spec.folder / f"{spec.name}.pid"
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """The pid of the running process, or 0."""
        return self._process.pid if self._process and self._process.running else 0

    async def start(self) -> None:
        """Starts the server and waits until it is ready. Raises Unavailable; then no process is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.spec.ready_seconds
        await self._end_leftover()
        starts = 0
        while True:
            await self._spawn()
            if await self._becomes_ready(deadline):
                return
            starts += 1
            ended = self.pid == 0
            await self.stop()
            tail = self._log.tail()
            if loop.time() >= deadline or not (ended and self.spec.retry_start(tail)):
                how = "ended" if ended else f"was not ready after {self.spec.ready_seconds:.0f} s"
                message = f"{self.spec.name} {how}; the end of {self._log.path}:\n{tail}"
                raise Unavailable(message, "CHILD_NOT_READY", part=self.spec.name)
            await asyncio.sleep(RESTART_BACKOFF.pause(starts))

    async def ended(self) -> None:
        """Returns once the process has ended by itself, and what it left is cleared away. Keeps the log short
        meanwhile."""
        assert self._process is not None
        ending = asyncio.ensure_future(self._process.wait())
        try:
            while not (await asyncio.wait([ending], timeout=ChildLog.TRIM_SECONDS))[0]:
                self._log.trim()
        finally:
            ending.cancel()
        await self.stop()
        log.error(
            "child process ended", child=self.spec.name, status=ending.result(), log=str(self._log.path)
        )

    async def stop(self) -> None:
        """Ends the process, if there is one: by a signal, and by SIGKILL after `stop_seconds`."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if not await process.stop(self.spec.stop_signal, self.spec.stop_seconds):
                log.warning("child process killed: it did not stop in time", child=self.spec.name)
        finally:
            self._pid_file.unlink(missing_ok=True)

    async def _spawn(self) -> None:
        command = tied_to_parent(await self.spec.prepare(), self.spec.within, self.spec.user)
        with self._log.open() as output:
            self._process = await ChildProcess.start(
                command,
                environment={**os.environ, **dict(self.spec.environment)},
                stdout=output,
                stderr=output,
            )
        self._pid_file.write_text(f"{self._process.pid} {start_time(self._process.pid)}")

    async def _becomes_ready(self, deadline: float) -> bool:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and self.pid:
            with suppress(OSError, Unavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    if await self.spec.ready():
                        return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _end_leftover(self) -> None:
        """Kills the process that an earlier Lares recorded, if it still runs: it may be about to end, or
        (without PR_SET_PDEATHSIG) may not have noticed the end of its parent yet."""
        with suppress(OSError, ValueError, TimeoutError):
            pid, started = self._pid_file.read_text().split(maxsplit=1)
            async with asyncio.timeout(LEFTOVER_SECONDS):
                while start_time(int(pid)) == started:
                    os.kill(int(pid), signal.SIGKILL)
                    await asyncio.sleep(POLL_SECONDS)
