"""A child process that this process owns: it dies with us, even by kill -9, and comes back when it dies."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from mesh.problems import Problem, Unavailable
from mesh.processes.child_log import ChildLog
from mesh.processes.parent_death import start_time, tied_to_parent

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.02
LEFTOVER_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
STEADY_SECONDS = 30.0  # up for so long, a child's next death is a new matter


@dataclass(frozen=True)
class ChildSpec:
    """What to run.

    `prepare` is called before every start and gives the command; `ready` raises, or says False, until the
    child may be used. `again` recognises, by the end of the log, a failed start that is worth another one
    within `ready_seconds`. `within` is a command that runs the rest by exec. `folder` takes log and pid.
    """

    name: str
    folder: Path
    prepare: Callable[[], Awaitable[Sequence[str]]]
    ready: Callable[[], Awaitable[bool]]
    ready_seconds: float = 30.0
    again: Callable[[str], bool] = lambda _: False
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    within: Sequence[str] = ()
    environment: tuple[tuple[str, str], ...] = ()


@asynccontextmanager
async def open_child(part: ChildSpec) -> AsyncIterator["SupervisedChild"]:
    """The child, ready; stopped at the end. Raises Unavailable CHILD_NOT_READY with the end of its log.

    To be entered on the main thread: the kernel ties a child to the thread that forked it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("owned children are started from the main thread")
    child = SupervisedChild(part)
    watch: asyncio.Task[None] | None = None
    try:
        await child.start()
        watch = asyncio.create_task(child.watch(), name=f"watch {part.name}")
        yield child
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await child.stop()


class SupervisedChild:
    """One part and its process, which may be another one after a death."""

    def __init__(self, part: ChildSpec) -> None:
        self.part = part
        self._journal = ChildLog(part.folder / f"{part.name}.log")
        self._record = part.folder / f"{part.name}.pid"
        self._process: asyncio.subprocess.Process | None = None
        self._ready = False

    @property
    def pid(self) -> int:
        """Of the running child; 0 between two lives."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Starts the child and waits until it is ready; raises Unavailable, and then nothing runs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.part.ready_seconds
        await self._end_leftover()
        while True:
            await self._spawn()
            if await self._becomes_ready(deadline):
                self._ready = True
                return
            ended = self.pid == 0
            await self.stop()
            tail = self._journal.tail()
            if loop.time() >= deadline or not (ended and self.part.again(tail)):
                how = "ended" if ended else f"was not ready after {self.part.ready_seconds:.0f} s"
                message = f"{self.part.name} {how}; the end of {self._journal.path}:\n{tail}"
                raise Unavailable(message, "CHILD_NOT_READY", part=self.part.name)
            await asyncio.sleep(FIRST_PAUSE)

    async def watch(self) -> None:
        """Keeps the log short, and starts the child again, after growing pauses, whenever it dies."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            status = await self._until_dead()
            await self.stop()
            log.error("child died", part=self.part.name, status=status, log=str(self._journal.path))
            pause = FIRST_PAUSE if loop.time() - since > STEADY_SECONDS else pause
            while not self._ready:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    await self.start()
                except (Problem, OSError) as error:
                    log.error("child does not come back", part=self.part.name, problem=str(error))
            log.warning("child is back", part=self.part.name, pid=self.pid)

    async def stop(self) -> None:
        """Asks the child to end, and kills it when it does not in `stop_seconds`. Takes a dead one too."""
        self._ready = False
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.returncode is None:
                process.send_signal(self.part.stop_signal)
            async with asyncio.timeout(self.part.stop_seconds):
                await process.wait()
        except ProcessLookupError:
            pass
        except TimeoutError:
            log.warning("child does not stop: killed", part=self.part.name)
        finally:
            # The group as well: what a launcher leaves behind when it was killed itself.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            self._record.unlink(missing_ok=True)

    async def _spawn(self) -> None:
        command = tied_to_parent(await self.part.prepare(), self.part.within)
        with self._journal.open() as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **dict(self.part.environment)},
                start_new_session=True,  # a Ctrl-C is ours to pass on, in our order
            )
        self._record.write_text(f"{self._process.pid} {start_time(self._process.pid)}")

    async def _becomes_ready(self, deadline: float) -> bool:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and self.pid:
            with suppress(OSError, Unavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    if await self.part.ready():
                        return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _until_dead(self) -> int:
        assert self._process is not None
        dead = asyncio.ensure_future(self._process.wait())
        try:
            while not (await asyncio.wait([dead], timeout=ChildLog.TRIM_SECONDS))[0]:
                self._journal.trim()
            return dead.result()
        finally:
            dead.cancel()

    async def _end_leftover(self) -> None:
        """The child of an earlier parent, still dying, or (without PDEATHSIG) not yet aware of it."""
        with suppress(OSError, ValueError, TimeoutError):
            pid, born = self._record.read_text().split(maxsplit=1)
            async with asyncio.timeout(LEFTOVER_SECONDS):
                while start_time(int(pid)) == born:
                    os.kill(int(pid), signal.SIGKILL)
                    await asyncio.sleep(POLL_SECONDS)
