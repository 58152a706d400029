"""Child processes that run one function over untrusted bytes, and may crash on them.

Native code that parses files from outside (decoders, embedded detectors) runs here. A child ends with its
parent, even if the parent is killed. It receives no settings of Lares and cannot write to files, except to
the one that it was given. On Linux it cannot connect to anything, neither to Lares nor to the network, and
cannot remove or rename files. It still runs as the same user, and can read what that user can read.
"""

import asyncio
import contextlib
import os
import re
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import structlog

from mesh.problems import Exhausted, Internal, Invalid, Unavailable
from mesh.processes.child_process import ChildProcess, keep_running
from mesh.processes.sandbox_child import PROGRESS, SIZES, pack, unpack
from mesh.retry import Backoff

log = structlog.get_logger(__name__)

MAIN = "from mesh.processes.sandbox_child import main; main()"
MAX_RESULT_BYTES = 64 * 2**20
READ_BYTES = 2**18
STDERR_BYTES = 2000
# Of what a child says: it goes into logs and messages. A reason is the name of a kind of problem.
MAX_TEXT_LENGTH = 500
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# Of what a child says: it goes into logs and messages. A reason is the name of a kind of problem.
MAX_TEXT_LENGTH = 500
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
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
    `memory_bytes` limits a child's address space (None: no limit, which GPU drivers need), `cpu_seconds` the
    processor time of its whole life. `nice` lowers its priority. With `idle_seconds`, children start with the
    first call and end after so long without one; otherwise they start with the block and stay.

    For results that are larger than MAX_RESULT_BYTES, `output` is the descriptor of a file that all children
    may write to, under the same number, up to `output_bytes`. They cannot open any other file for writing.
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
        cpu_seconds: int | None = None,
        nice: int = 0,
        idle_seconds: float | None = None,
        output: int | None = None,
        output_bytes: int = 0,
    ) -> None:
        self.target, self._output = target, output
        self._options = {
            "target": target,
            "setup": None if setup is None else list(setup),
            "memory_bytes": memory_bytes,
            "cpu_seconds": cpu_seconds,
            "seconds": seconds,
            "nice": nice,
            "output_bytes": output_bytes,
        }
        self._start_seconds, self._idle_seconds = start_seconds, idle_seconds
        self._slots = [_Slot(self._start, idle_seconds) for _ in range(size)]
        self._capacity = asyncio.Semaphore(size * depth)
        self._waiting, self._max_waiting = 0, waiting
        self._one_rerun = asyncio.Lock()
        self._reruns: set[asyncio.Task[Any]] = set()
        self._restarts: list[asyncio.Task[None]] = []
        self._stopped = False

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

    async def run(self, *args: object, on_progress: Callable[[float], None] = lambda _: None) -> Any:
        """Calls the function with `args` in a child, and returns its result. If the function is a generator,
        that is what it returns at its end; what it yields, how much is done (0 to 1), goes to `on_progress`.

        Raises Invalid with the function's own reason if it refused its input, Crashed, Hung, Exhausted
        (SANDBOX_FULL), Unavailable (CHILD_NOT_STARTED), and Internal (CHILD_FAILED) for any other exception.
        """
        frame = pack(args)
        await self._enter()
        slot = min(self._slots, key=lambda slot: slot.calls)
        slot.enter()

        def leave() -> None:
            slot.leave()
            self._capacity.release()

        response: asyncio.Future[Any] | None = None
        try:
            response = (await slot.running_child()).send(frame, on_progress, if_abandoned=leave)
            return _result_of(await response)
        except _ChildEnded:
            rerun = asyncio.create_task(self._run_alone(frame, on_progress))
            self._reruns.add(rerun)
            rerun.add_done_callback(self._reruns.discard)
            return await rerun
        finally:
            # Once sent, a call occupies its child to the end, even if its caller stops waiting.
            if response is None or not response.cancelled():
                leave()

    async def _enter(self) -> None:
        """Waits until there is room for another call. Raises Exhausted."""
        if self._capacity.locked() and self._waiting >= self._max_waiting:
            raise Exhausted("too many calls are waiting", "SANDBOX_FULL", target=self.target)
        self._waiting += 1
        try:
            await self._capacity.acquire()
        finally:
            self._waiting -= 1

    async def _run_alone(self, frame: bytes, on_progress: Callable[[float], None]) -> Any:
        """Repeats a call in a new child. Only if that child crashes, too, is this input the cause; otherwise
        it was another call, or something outside."""
        async with self._one_rerun:
            child = await self._start()
            try:
                return _result_of(await child.send(frame, on_progress))
            except _ChildEnded:
                raise Crashed("this input crashes the program that reads it", "CHILD_CRASHED") from None
            finally:
                await child.stop()

    async def _start(self) -> "_Child":
        if self._stopped:
            raise Unavailable("the sandbox has ended", "CHILD_NOT_STARTED")
        return await _Child.start(self._options, self._start_seconds, self._output)

    async def _stop(self) -> None:
        self._stopped = True
        for slot in self._slots:
            slot.cancel_calls()
        tasks = [*self._restarts, *self._reruns]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))


class _Slot:
    """The place of one child in the pool. Its child changes when it is started again."""

    def __init__(self, start: "Callable[[], Awaitable[_Child]]", idle_seconds: float | None) -> None:
        self._start_child, self._idle_seconds = start, idle_seconds
        self._starting: asyncio.Task[_Child] | None = None
        self.child: _Child | None = None
        self.calls = 0
        self._idle_timer: asyncio.Task[None] | None = None

    async def running_child(self) -> "_Child":
        """The child, started if it does not run."""
        if self.child and self.child.alive:
            return self.child
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)  # several callers may wait for it

    async def _start(self) -> "_Child":
        try:
            self.child = await self._start_child()
            return self.child
        finally:
            self._starting = None

    async def child_ended(self) -> None:
        assert self.child
        await self.child.ended.wait()

    def enter(self) -> None:
        """Counts a call."""
        self.calls += 1
        if self._idle_timer:
            self._idle_timer.cancel()

    def leave(self) -> None:
        self.calls -= 1
        if self._idle_seconds is not None and not self.calls:
            self._idle_timer = asyncio.create_task(self._stop_after(self._idle_seconds))

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.child and not self.calls:
            await self.child.stop()

    def cancel_calls(self) -> None:
        if self.child:
            self.child.cancel_calls()

    async def stop(self) -> None:
        if self._starting:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self.child:
            await self.child.stop()
        if self._idle_timer:
            self._idle_timer.cancel()


@dataclass(slots=True)
class _Call:
    """A call that was sent to a child."""

    response: "asyncio.Future[Any]"
    on_progress: Callable[[float], None]
    if_abandoned: Callable[[], None]

    def end(self, outcome: object) -> None:
        if self.response.cancelled():
            self.if_abandoned()
        elif isinstance(outcome, Exception):
            self.response.set_exception(outcome)
        else:
            self.response.set_result(outcome)


class _Child:
    """One process. It runs its calls in order; the deadline of a call begins when the previous one ends."""

    def __init__(self, process: ChildProcess, target: str, seconds: float) -> None:
        self._process, self._target, self.seconds = process, target, seconds
        self._pending: deque[_Call] = deque()
        self._oldest_since = 0.0  # when the oldest pending call became the oldest
        self._alarm: asyncio.TimerHandle | None = None
        self._stderr_tail = b""
        self._stopping = False
        self.pid, self.alive, self.ended = process.pid, True, asyncio.Event()
        self._tasks = [asyncio.create_task(self._read_results()), asyncio.create_task(self._read_stderr())]

    @classmethod
    async def start(cls, options: dict[str, Any], start_seconds: float, output: int | None) -> Self:
        """Starts a child and has it load its target.

        Raises Unavailable CHILD_NOT_STARTED, Invalid if the set-up refused its arguments, and Internal if the
        target cannot be loaded.
        """
        process = await ChildProcess.start(
            [sys.executable, "-c", MAIN, str(os.getpid())],
            environment=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            inherited=() if output is None else (output,),
        )
        child = cls(process, options["target"], start_seconds)
        try:
            state = _result_of(await child.send(pack(options)))
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
        child._cancel_alarm()  # it was set for the start's seconds
        return child

    def send(
        self,
        frame: bytes,
        on_progress: Callable[[float], None] = lambda _: None,
        if_abandoned: Callable[[], None] = lambda: None,
    ) -> "asyncio.Future[Any]":
        """Sends a call. The result is its response, or _ChildEnded if the process ends first. If the caller
        has cancelled it, `if_abandoned` is called instead.

        Raises _ChildEnded if the process has ended.
        """
        if not self.alive:
            raise _ChildEnded
        call = _Call(asyncio.get_running_loop().create_future(), on_progress, if_abandoned)
        self._pending.append(call)
        if len(self._pending) == 1:
            self._watch_oldest()
        self._process.stdin.write(frame)
        return call.response

    def cancel_calls(self) -> None:
        for call in self._pending:
            call.response.cancel()

    async def stop(self) -> None:
        """Kills the process and waits until it has ended."""
        self._stopping, self.alive = True, False
        self._process.kill()
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*self._tasks)

    def _watch_oldest(self) -> None:
        """Begins the deadline of the call that is now the oldest.

        One alarm serves many calls: when it goes off, it is set again for what is left to the oldest call of
        that time. Setting and cancelling one for each call costs more.
        """
        loop = asyncio.get_running_loop()
        self._oldest_since = loop.time()
        if self._alarm is None:
            self._alarm = loop.call_later(self.seconds, self._check_deadline)

    def _check_deadline(self) -> None:
        self._alarm = None
        if not self._pending:
            return
        loop = asyncio.get_running_loop()
        left = self._oldest_since + self.seconds - loop.time()
        if left > 0:
            self._alarm = loop.call_later(left, self._check_deadline)
        else:
            self._expire()

    def _cancel_alarm(self) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None

    def _expire(self) -> None:
        self.alive = False
        self._pending.popleft().end(Hung(f"no result within {self.seconds:g} s", "CHILD_HUNG"))
        self._process.kill()

    async def _read_results(self) -> None:
        received = bytearray()
        try:
            while chunk := await self._process.stdout.read(READ_BYTES):
                if not self.alive:
                    break  # this is the response to a call that has expired, not to the next one
                received += chunk
                while (response := take_response(received)) is not None:
                    if isinstance(response, dict) and PROGRESS in response:
                        self._pending[0].on_progress(_share(response[PROGRESS]))
                        continue
                    self._pending.popleft().end(response)
                    self._watch_oldest()
        except (OSError, ValueError, RecursionError, IndexError):
            pass  # the process has ended, or no longer follows the protocol
        finally:
            self.alive = False
            self._process.kill()
            while self._pending:
                self._pending.popleft().end(_ChildEnded())
            self._cancel_alarm()
            self._process.stdin.close()
        status = await self._process.wait()
        with contextlib.suppress(OSError):
            await self._process.stdout.read()  # asyncio frees the process only at the end of its output
        self.ended.set()
        if not self._stopping:
            output = self._stderr_tail.decode(errors="replace").strip()[-300:]
            log.warning("child process ended", child=self._target, pid=self.pid, status=status, output=output)

    async def _read_stderr(self) -> None:
        """Keeps the end of what native libraries print, for the log line about the process's end."""
        while output := await self._process.stderr.read(STDERR_BYTES):
            self._stderr_tail = (self._stderr_tail + output)[-STDERR_BYTES:]


def take_response(received: bytearray) -> dict[str, Any] | bytes | None:
    """Removes the first response from what was received from a child; None if it is not complete. Bytes are a
    result; so is the `result` of a dict. A dict with `progress` is no response yet; other dicts are errors.

    Raises ValueError for anything that is not a response: the child may be under foreign control.
    """
    if len(received) < SIZES.size:
        return None
    text_size, attached_size = SIZES.unpack_from(received)
    if text_size + attached_size > MAX_RESULT_BYTES:
        raise ValueError("the response is too large")
    attached_at = SIZES.size + text_size
    end = attached_at + attached_size
    if len(received) < end:
        return None
    with memoryview(received) as view:
        value = unpack(bytes(view[SIZES.size : attached_at]), bytes(view[attached_at:end]))
    del received[:end]
    if not isinstance(value, dict | bytes):
        raise ValueError("not a response")
    return value


def _share(progress: object) -> float:
    """Raises ValueError for what is not from 0 to 1."""
    if not isinstance(progress, int | float) or not 0 <= progress <= 1:
        raise ValueError("not a share")
    return progress


def _result_of(response: dict[str, Any] | bytes) -> Any:
    if isinstance(response, bytes):
        return response
    if "result" in response:
        return response["result"]
    reason = response.get("reason")
    if "refused" in response and isinstance(reason, str) and REASON.fullmatch(reason):
        raise Invalid(str(response["refused"])[:MAX_TEXT_LENGTH], reason)
    raise Internal(str(response.get("failed"))[:MAX_TEXT_LENGTH], "CHILD_FAILED")


def _environment() -> dict[str, str]:
    """This process's environment without the settings of Lares, S3 and tracing, which include secrets, and
    with one thread for numpy's algebra."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LARES_", "AWS_", "OTEL_"))
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return kept | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
