"""Child processes that run one function over foreign bytes and may die of it.

Native code that parses what others made (decoders, embedded detectors) runs here. A child is owned: it ends
with its parent, also under kill -9. It gets no settings of Lares and can write no file. On Linux it can
connect to nothing, neither to this Lares nor to the network. It runs as the same user, though, and can read
what that user can.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import structlog

from mesh.problems import Exhausted, Internal, Invalid, Problem, Unavailable
from mesh.processes.sandbox_child import SIZES, pack, unpack

log = structlog.get_logger(__name__)

MAIN = "from mesh.processes.sandbox_child import main; main()"
MAX_ANSWER_BYTES = 64 * 2**20
SAID_BYTES = 2000
STOP_SECONDS = 30.0
RESTART_SECONDS = 1.0


class Crashed(Invalid):
    """The child died on this input, and a fresh child that was given nothing else died on it too."""

    attempts = 2


class Hung(Unavailable):
    """No answer within the deadline; the child was killed. The input or a slow host may be at fault."""


class _Died(Exception):
    """The child is gone, and with it the calls it had been given."""


class Sandbox:
    """A pool of children, each of which runs `target`, call by call, in the order in which they came.

    `target` is "module:function". With `setup` it is called once in every child, with these arguments, and
    what it returns is the function; what it refuses ends the start. Arguments and results: what JSON can
    say, and bytes; tuples become lists.

    `size` children, each with up to `depth` calls sent ahead so that it need not wait for this event loop;
    `waiting` more callers may wait. `seconds` is the deadline of one call, `memory_bytes` bounds a child's
    address space (None: nothing does, as GPU drivers need it). With `idle_seconds` children start with the
    first call and end after so long without one; otherwise they start with the block and stay.
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
        self._order = {
            "target": target,
            "setup": None if setup is None else list(setup),
            "memory_bytes": memory_bytes,
            "seconds": seconds,
            "nice": nice,
        }
        self._start_seconds, self._idle_seconds = start_seconds, idle_seconds
        self._slots = [_Slot(self._start) for _ in range(size)]
        self._room = asyncio.Semaphore(size * depth)
        self._waiting, self._most_waiting = 0, waiting
        self._suspect = asyncio.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._idle_seconds is None:
            try:
                await asyncio.gather(*(slot.ready() for slot in self._slots))
            except BaseException:
                await self._stop()
                raise
            self._keepers = [asyncio.create_task(slot.keep()) for slot in self._slots]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def pids(self) -> list[int]:
        """The children alive now."""
        return [slot.child.pid for slot in self._slots if slot.child and slot.child.alive]

    async def run(self, *args: object) -> Any:
        """The function's result for `args`. Raises Invalid with the function's own reason where it refused,
        Crashed, Hung, Exhausted (SANDBOX_FULL), Unavailable (CHILD_NOT_STARTED), and Internal (CHILD_FAILED)
        for any other exception in the child."""
        if self._room.locked() and self._waiting >= self._most_waiting:
            raise Exhausted("too many calls are waiting", "SANDBOX_FULL", target=self.target)
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        # A call once sent occupies its child to the end, whether or not the caller still waits.
        call = asyncio.create_task(self._run(args))
        self._calls.add(call)
        call.add_done_callback(self._end_call)
        return await asyncio.shield(call)

    def _end_call(self, call: "asyncio.Task[Any]") -> None:
        self._room.release()
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # seen, also where the caller has left

    async def _run(self, args: tuple[object, ...]) -> Any:
        frame = pack(args)
        try:
            return await min(self._slots, key=lambda slot: slot.calls).ask(frame, self._idle_seconds)
        except _Died:
            return await self._run_alone(frame)

    async def _run_alone(self, frame: bytes) -> Any:
        """Only who kills a fresh child that was given nothing else is to blame."""
        async with self._suspect:
            child = await self._start()
            try:
                return await child.ask(frame)
            except _Died:
                raise Crashed("this input crashes the program that reads it", "CHILD_CRASHED") from None
            finally:
                await child.stop()

    async def _start(self) -> "_Child":
        return await _Child.start(self._order, self._start_seconds)

    async def _stop(self) -> None:
        tasks = [*self._keepers, *self._calls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.stop() for slot in self._slots))


class _Slot:
    """The place of one child, filled when it is needed."""

    def __init__(self, start: "Callable[[], Awaitable[_Child]]") -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self.child: _Child | None = None
        self.calls = 0
        self._end: asyncio.Task[None] | None = None

    async def ready(self) -> "_Child":
        async with self._starting:
            if self.child is None or not self.child.alive:
                self.child = await self._start()
            return self.child

    async def keep(self) -> None:
        """Replaces the child as soon as it has died, so that the next call need not wait for a start."""
        while True:
            try:
                child = await self.ready()
            except Problem as problem:
                log.warning("child does not start", error=problem.message)
                await asyncio.sleep(RESTART_SECONDS)
            else:
                await child.gone.wait()

    async def ask(self, frame: bytes, idle_seconds: float | None) -> Any:
        self.calls += 1
        if self._end:
            self._end.cancel()
        try:
            return await (await self.ready()).ask(frame)
        finally:
            self.calls -= 1
            if idle_seconds is not None and not self.calls:
                self._end = asyncio.create_task(self._end_after(idle_seconds))

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._starting:
            if self.child and not self.calls:
                await self.child.stop()

    async def stop(self) -> None:
        if self._end:
            self._end.cancel()
        if self.child:
            await self.child.stop()


class _Child:
    """One process. It answers in order; the deadline of a call begins when the one before is answered."""

    def __init__(self, process: asyncio.subprocess.Process, target: str, seconds: float) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process, self._target, self.seconds = process, target, seconds
        self._requests, self._answers = process.stdin, process.stdout
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._said = b""
        self._stopping = False
        self.pid, self.alive, self.gone = process.pid, True, asyncio.Event()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen(process.stderr))]

    @classmethod
    async def start(cls, order: dict[str, Any], start_seconds: float) -> Self:
        """A child that has taken its order. Raises Unavailable, Invalid where its set-up refuses, and
        Internal where the target is no good."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", MAIN, str(os.getpid())),
            env=_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        child = cls(process, order["target"], start_seconds)
        try:
            state = await child.ask(pack(order))
        except (_Died, Hung):
            await child.stop()
            raise Unavailable(f"{order['target']} does not start", "CHILD_NOT_STARTED") from None
        except BaseException:
            await child.stop()
            raise
        if not state["confined"]:
            log.warning(
                "this system cannot keep a child from connecting, or from the memory of others",
                target=order["target"],
            )
        child.seconds = order["seconds"]
        return child

    async def ask(self, frame: bytes) -> Any:
        """Raises _Died where the process went before it answered."""
        if not self.alive:
            raise _Died
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        if len(self._asked) == 1:
            self._arm()
        self._requests.write(frame)
        return _result(await answer)

    async def stop(self) -> None:
        """Ends the process and waits for it."""
        self._stopping, self.alive = True, False
        self._kill()
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*self._tasks)

    def _kill(self) -> None:
        # Not `process.kill()`: that may reap the child before asyncio does, whose exit code is then lost.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _arm(self) -> None:
        """Sets the deadline of the call that is now the oldest."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = (
            asyncio.get_running_loop().call_later(self.seconds, self._expire) if self._asked else None
        )

    def _expire(self) -> None:
        self.alive = False
        self._settle(self._asked.popleft(), Hung(f"no answer within {self.seconds:g} s", "CHILD_HUNG"))
        self._kill()

    def _settle(self, answer: "asyncio.Future[Any]", outcome: Any) -> None:
        if answer.done():  # cancelled
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    async def _read(self) -> None:
        try:
            while True:
                value = await self._frame()
                if not self.alive:
                    break  # its call has been given up: this is no answer to the next one
                self._settle(self._asked.popleft(), value)
                self._arm()
        except (asyncio.IncompleteReadError, OSError, ValueError, RecursionError, IndexError):
            pass  # the process is gone, or no longer speaks as it should
        finally:
            self.alive = False
            self._kill()
            while self._asked:
                self._settle(self._asked.popleft(), _Died())
            self._arm()
            self._requests.close()
        code = await self._process.wait()
        with contextlib.suppress(OSError):
            await self._answers.read()  # to its end, unheard: only then asyncio lets go of the process
        self.gone.set()
        if not self._stopping:
            said = self._said.decode(errors="replace").strip()[-300:]
            log.warning("child died", target=self._target, pid=self.pid, code=code, said=said)

    async def _frame(self) -> Any:
        """Raises ValueError for what the far end should not send: it may have been taken over."""
        sizes = SIZES.unpack(await self._answers.readexactly(SIZES.size))
        if sum(sizes) > MAX_ANSWER_BYTES:
            raise ValueError("too large an answer")
        text, attached = [await self._answers.readexactly(size) for size in sizes]
        value = unpack(text, attached)
        if not isinstance(value, dict):
            raise ValueError("not an answer")
        return value

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keeps the last of what native libraries print, for the log line about a death."""
        while said := await stderr.read(SAID_BYTES):
            self._said = (self._said + said)[-SAID_BYTES:]


def _result(answer: Any) -> Any:
    if "result" in answer:
        return answer["result"]
    if "refused" in answer:
        raise Invalid(str(answer["refused"]), str(answer["reason"]))
    raise Internal(str(answer.get("failed")), "CHILD_FAILED")


def _environment() -> dict[str, str]:
    """This one's, less every setting of Lares, of S3 and of tracing (they hold secrets), and one thread for
    numpy's algebra."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LARES_", "AWS_", "OTEL_"))
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return kept | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
