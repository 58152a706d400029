"""Child processes that run one function over untrusted bytes, and may crash on them.

Native code that parses files from outside (decoders, embedded detectors) runs here. A child ends with its
parent, even if the parent is killed. It receives no settings of Lares and cannot write to files. On Linux it
cannot connect to anything, neither to Lares nor to the network. It still runs as the same user, and can read
what that user can read.
"""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import structlog

from mesh.problems import Exhausted, Internal, Invalid, Unavailable
from mesh.processes.child_process import ChildProcess, keep_running
from mesh.processes.sandbox_child import SIZES, pack, unpack
from mesh.retry import Backoff

log = structlog.get_logger(__name__)

MAIN = "from mesh.processes.sandbox_child import main; main()"
MAX_RESULT_BYTES = 64 * 2**20
STDERR_BYTES = 2000
STOP_SECONDS = 30.0
# Short, because a call may be waiting for the child.
RESTART_BACKOFF = Backoff(0.1, 1.0)


class Crashed(Invalid):
    """The child crashed on this input, and so did a new child that had received nothing else."""

    attempts = 2


class Hung(Unavailable):
    """There was no result before the deadline, and the child was killed. Either the input or a slow host may
    be the cause."""


class _ChildEnded(Exception):
    """The child ended before it had finished its calls."""


class Sandbox:
    """A pool of child processes that call `target`, each one call after another in order of arrival.

    `target` is "module:function". With `setup`, each child first calls the function with these arguments and
    uses what it returns as the target; an InputRefused from it fails the start. Arguments and results consist
    of what JSON can hold, and of bytes; tuples become lists.

    There are `size` children. Up to `depth` calls are sent to a child ahead of time, so that it need not wait
    for this event loop, and up to `waiting` callers wait in addition. `seconds` is the deadline of one call.
    `memory_bytes` limits a child's address space (None: no limit, which GPU drivers need). `nice` lowers its
    priority. With `idle_seconds`, children start with the first call and end after so long without one;
    otherwise they start with the block and stay.
    """

    def __init__(
        self,
        target: str,
        *,
        setup: Sequence[object] | None = None,
        size: int = 1,
        depth: int = 1,
        waiting: int = 64,
        seconds: float = 10.0,
        start_seconds: float = 90.0,
        memory_bytes: int | None = 2 * 2**30,
        nice: int = 0,
        idle_seconds: float | None = None,
    ) -> None:
        self.target = target
        self._options = {
            "target": target,
            "setup": None if setup is None else list(setup),
            "memory_bytes": memory_bytes,
            "seconds": seconds,
            "nice": nice,
        }
        self._start_seconds, self._idle_seconds = start_seconds, idle_seconds
        self._slots = [_Slot(self._start) for _ in range(size)]
        self._capacity = asyncio.Semaphore(size * depth)
        self._waiting, self._max_waiting = 0, waiting
        self._one_rerun = asyncio.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._restarts: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._idle_seconds is None:
            try:
                await asyncio.gather(*(slot.running_child() for slot in self._slots))
            except BaseException:
                await self._stop()
                raise
            self._restarts = [
                asyncio.create_task(
                    keep_running(self.target, slot.running_child, slot.child_ended, RESTART_BACKOFF)
                )
                for slot in self._slots
            ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def pids(self) -> list[int]:
        """The pids of the children that run now."""
        return [slot.child.pid for slot in self._slots if slot.child and slot.child.alive]

    async def run(self, *args: object) -> Any:
        """Calls the function with `args` in a child, and returns its result.

        Raises Invalid with the function's own reason if it refused its input, Crashed, Hung, Exhausted
        (SANDBOX_FULL), Unavailable (CHILD_NOT_STARTED), and Internal (CHILD_FAILED) for any other exception.
        """
        if self._capacity.locked() and self._waiting >= self._max_waiting:
            raise Exhausted("too many calls are waiting", "SANDBOX_FULL", target=self.target)
        self._waiting += 1
        try:
            await self._capacity.acquire()
        finally:
            self._waiting -= 1
        # Once sent, a call occupies its child to the end, even if its caller stops waiting.
        call = asyncio.create_task(self._run(args))
        self._calls.add(call)
        call.add_done_callback(self._end_call)
        return await asyncio.shield(call)

    def _end_call(self, call: "asyncio.Task[Any]") -> None:
        self._capacity.release()
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # marks it as retrieved, in case the caller no longer waits

    async def _run(self, args: tuple[object, ...]) -> Any:
        frame = pack(args)
        try:
            return await min(self._slots, key=lambda slot: slot.calls).call(frame, self._idle_seconds)
        except _ChildEnded:
            return await self._run_alone(frame)

    async def _run_alone(self, frame: bytes) -> Any:
        """Repeats a call in a new child. Only if that child crashes, too, is this input the cause; otherwise
        it was another call, or something outside."""
        async with self._one_rerun:
            child = await self._start()
            try:
                return await child.call(frame)
            except _ChildEnded:
                raise Crashed("this input crashes the program that reads it", "CHILD_CRASHED") from None
            finally:
                await child.stop()

    async def _start(self) -> "_Child":
        return await _Child.start(self._options, self._start_seconds)

    async def _stop(self) -> None:
        tasks = [*self._restarts, *self._calls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))


class _Slot:
    """The place of one child in the pool. Its child changes when it is started again."""

    def __init__(self, start: "Callable[[], Awaitable[_Child]]") -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self.child: _Child | None = None
        self.calls = 0
        self._idle_timer: asyncio.Task[None] | None = None

    async def running_child(self) -> "_Child":
        """The child, started if it does not run."""
        async with self._starting:
            if self.child is None or not self.child.alive:
                self.child = await self._start()
            return self.child

    async def child_ended(self) -> None:
        assert self.child
        await self.child.ended.wait()

    async def call(self, frame: bytes, idle_seconds: float | None) -> Any:
        self.calls += 1
        if self._idle_timer:
            self._idle_timer.cancel()
        try:
            return await (await self.running_child()).call(frame)
        finally:
            self.calls -= 1
            if idle_seconds is not None and not self.calls:
                self._idle_timer = asyncio.create_task(self._stop_after(idle_seconds))

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._starting:
            if self.child and not self.calls:
                await self.child.stop()

    async def stop(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
        if self.child:
            await self.child.stop()


class _Child:
    """One process. It runs its calls in order; the deadline of a call begins when the previous one ends."""

    def __init__(self, process: ChildProcess, target: str, seconds: float) -> None:
        self._process, self._target, self.seconds = process, target, seconds
        self._pending: deque[asyncio.Future[Any]] = deque()
        self._deadline: asyncio.TimerHandle | None = None
        self._stderr_tail = b""
        self._stopping = False
        self.pid, self.alive, self.ended = process.pid, True, asyncio.Event()
        self._tasks = [asyncio.create_task(self._read_results()), asyncio.create_task(self._read_stderr())]

    @classmethod
    async def start(cls, options: dict[str, Any], start_seconds: float) -> Self:
        """Starts a child and has it load its target.

        Raises Unavailable CHILD_NOT_STARTED, Invalid if the set-up refused its arguments, and Internal if the
        target cannot be loaded.
        """
        process = await ChildProcess.start(
            [sys.executable, "-c", MAIN, str(os.getpid())],
            environment=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        child = cls(process, options["target"], start_seconds)
        try:
            state = await child.call(pack(options))
        except (_ChildEnded, Hung):
            await child.stop()
            raise Unavailable(f"{options['target']} does not start", "CHILD_NOT_STARTED") from None
        except BaseException:
            await child.stop()
            raise
        if not state["confined"]:
            log.warning(
                "child process not confined: this system cannot deny it connections or the memory of others",
                target=options["target"],
            )
        child.seconds = options["seconds"]
        return child

    async def call(self, frame: bytes) -> Any:
        """Sends a call and returns its result. Raises _ChildEnded if the process ends first."""
        if not self.alive:
            raise _ChildEnded
        response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append(response)
        if len(self._pending) == 1:
            self._set_deadline()
        self._process.stdin.write(frame)
        return _result_of(await response)

    async def stop(self) -> None:
        """Kills the process and waits until it has ended."""
        self._stopping, self.alive = True, False
        self._process.kill()
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*self._tasks)

    def _set_deadline(self) -> None:
        """For the call that is now the oldest."""
        if self._deadline:
            self._deadline.cancel()
        self._deadline = (
            asyncio.get_running_loop().call_later(self.seconds, self._expire) if self._pending else None
        )

    def _expire(self) -> None:
        self.alive = False
        _settle(self._pending.popleft(), Hung(f"no result within {self.seconds:g} s", "CHILD_HUNG"))
        self._process.kill()

    async def _read_results(self) -> None:
        try:
            while True:
                response = await self._read_frame()
                if not self.alive:
                    break  # the response to a call that has expired, not to the next one
                _settle(self._pending.popleft(), response)
                self._set_deadline()
        except (asyncio.IncompleteReadError, OSError, ValueError, RecursionError, IndexError):
            pass  # the process has ended, or no longer follows the protocol
        finally:
            self.alive = False
            self._process.kill()
            while self._pending:
                _settle(self._pending.popleft(), _ChildEnded())
            self._set_deadline()
            self._process.stdin.close()
        status = await self._process.wait()
        with contextlib.suppress(OSError):
            await self._process.stdout.read()  # asyncio frees the process only at the end of its output
        self.ended.set()
        if not self._stopping:
            output = self._stderr_tail.decode(errors="replace").strip()[-300:]
            log.warning("child process ended", child=self._target, pid=self.pid, status=status, output=output)

    async def _read_frame(self) -> dict[str, Any]:
        """Raises ValueError for anything that is not a response: the child may be under foreign control."""
        sizes = SIZES.unpack(await self._process.stdout.readexactly(SIZES.size))
        if sum(sizes) > MAX_RESULT_BYTES:
            raise ValueError("the response is too large")
        text, attached = [await self._process.stdout.readexactly(size) for size in sizes]
        value = unpack(text, attached)
        if not isinstance(value, dict):
            raise ValueError("not a response")
        return value

    async def _read_stderr(self) -> None:
        """Keeps the end of what native libraries print, for the log line about the process's end."""
        while output := await self._process.stderr.read(STDERR_BYTES):
            self._stderr_tail = (self._stderr_tail + output)[-STDERR_BYTES:]


def _settle(response: "asyncio.Future[Any]", outcome: object) -> None:
    if response.done():  # cancelled
        return
    if isinstance(outcome, Exception):
        response.set_exception(outcome)
    else:
        response.set_result(outcome)


def _result_of(response: dict[str, Any]) -> Any:
    if "result" in response:
        return response["result"]
    if "refused" in response:
        raise Invalid(str(response["refused"]), str(response["reason"]))
    raise Internal(str(response.get("failed")), "CHILD_FAILED")


def _environment() -> dict[str, str]:
    """This process's environment without the settings of Lares, S3 and tracing, which include secrets, and
    with one thread for numpy's algebra."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LARES_", "AWS_", "OTEL_"))
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return kept | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
