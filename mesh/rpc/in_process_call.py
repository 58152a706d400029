"""A call within this process: the state that its caller's end and its handler's end share.

Messages are passed as bytes, so that the two ends share no objects. Either end can end the call at any time;
the first status that is set is the status of the call.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from functools import lru_cache
from typing import Any, NamedTuple

import grpc

# A sender waits while its direction holds this many messages or bytes.
WAITING_MESSAGES = 16
WAITING_BYTES = 2**20

FINISHED = "RPC already finished."

KEY = re.compile(r"[0-9a-z_.-]+")
MAX_KEYS = 256  # that are known to be valid
BINARY = "-bin"


class Metadatum(NamedTuple):
    key: str
    value: str | bytes


class CallStatus(NamedTuple):
    """How a call ended. With `by_caller` its own caller cancelled it, and receives a CancelledError."""

    code: grpc.StatusCode
    details: str = ""
    trailing: tuple[Metadatum, ...] = ()
    by_caller: bool = False


def checked(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[Metadatum, ...]:
    """The metadata as the other end receives it. Raises grpc.aio.InternalError for keys and values that gRPC
    cannot send, and TypeError for values of another type."""
    read = []
    for key, value in metadata or ():
        if not _is_key(key):
            raise grpc.aio.InternalError(f"Metadata key {key!r} is invalid")
        if key.endswith(BINARY):
            if not isinstance(value, bytes):
                raise TypeError(f"Binary metadata key={key!r} expected bytes, got {type(value)}")
        else:
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            elif not isinstance(value, str):
                raise TypeError(f"Metadata key={key!r} expected str or bytes, got {type(value)}")
            if not (value.isascii() and value.isprintable()):
                raise grpc.aio.InternalError(f"Metadata value for key {key!r} is invalid")
        read.append(Metadatum(key, value))
    return tuple(read)


@lru_cache(MAX_KEYS)
def _is_key(key: str) -> bool:
    return KEY.fullmatch(key) is not None


class MessageQueue:
    """A bounded queue of messages from one task to another."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False
        self._room, self._news = asyncio.Event(), asyncio.Event()

    async def put(self, message: bytes) -> bool:
        """Waits for room and adds the message. Returns False, without adding it, once the queue has ended."""
        while not self._ended and (len(self._messages) >= WAITING_MESSAGES or self._bytes >= WAITING_BYTES):
            self._room.clear()
            await self._room.wait()
        if self._ended:
            return False
        self._messages.append(message)
        self._bytes += len(message)
        self._news.set()
        return True

    def put_last(self, message: bytes) -> None:
        """Adds the only request of a call whose request is not a stream, and ends the queue."""
        self._messages.append(message)
        self.end()

    async def get(self) -> bytes | None:
        """The next message, or None once the queue has ended and is empty."""
        while not self._messages and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= len(message)
        self._room.set()
        return message

    def end(self, *, discard: bool = False) -> None:
        """Accepts no more messages. With `discard`, drops those that have not been read."""
        self._ended = True
        if discard:
            self._messages.clear()
        self._room.set()
        self._news.set()


class Exchange:
    """One call from its start to its status, with the task of its handler and the task that sends the
    caller's requests. Both tasks end with the call."""

    def __init__(
        self,
        method: str,
        metadata: tuple[Metadatum, ...],
        timeout: float | None,
        max_message_bytes: int,
        tasks: set["asyncio.Task[None]"],
    ) -> None:
        """`timeout` is in seconds. The call adds its tasks to `tasks` while they run."""
        self.method, self.metadata, self.max_message_bytes = method, metadata, max_message_bytes
        self.loop = asyncio.get_running_loop()
        self.requests, self.responses = MessageQueue(), MessageQueue()
        self.status: CallStatus | None = None
        self.initial: tuple[Metadatum, ...] | None = None
        self.accepted, self._begun, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._handler: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._tasks = tasks
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        if timeout is not None:
            self._deadline = self.loop.time() + timeout
            late = CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            if timeout > 0:
                self._timer = self.loop.call_at(self._deadline, self.abandon, late)
            else:
                self.abandon(late)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0, or None without a deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - self.loop.time())

    def handle(self, work: Coroutine[Any, Any, None], context: Context) -> "asyncio.Task[None]":
        """Runs the handler in `context`."""
        self.accepted.set()
        self._handler = self._spawn(work, context)
        return self._handler

    def send(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the task that sends the caller's requests, in the caller's context."""
        self._sender = self._spawn(work, None)

    def _spawn(self, work: Coroutine[Any, Any, None], context: Context | None) -> "asyncio.Task[None]":
        task = self.loop.create_task(work, name=f"in-process call {self.method}", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def too_large(self, message: bytes, side: str) -> CallStatus | None:
        """The status with which a call ends if `side` sends this message; None if it is not too large."""
        if len(message) <= self.max_message_bytes:
            return None
        sizes = f"({len(message)} vs. {self.max_message_bytes})"
        return CallStatus(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{side}: Sent message larger than max {sizes}")

    def begin(self, initial: tuple[Metadatum, ...]) -> None:
        """Sets the handler's initial metadata, unless they are set already."""
        if self.initial is None:
            self.initial = initial
            self._begun.set()

    def finish(self, status: CallStatus) -> bool:
        """Ends the call for the handler: the caller still receives what was sent, then the status. Returns
        False if the call had ended."""
        return self._end(status, discard=False)

    def abandon(self, status: CallStatus) -> bool:
        """Ends the call for any other reason: drops responses that were not read and cancels the handler.
        Returns False if the call had ended."""
        if not self._end(status, discard=True):
            return False
        if self._handler:
            self._handler.cancel()
        return True

    def _end(self, status: CallStatus, *, discard: bool) -> bool:
        if self.status:
            return False
        self.status = status
        self.begin(())
        if self._timer:
            self._timer.cancel()
        self.requests.end(discard=True)
        self.responses.end(discard=discard)
        if self._sender:
            self._sender.cancel()
        self.accepted.set()
        self._ended.set()
        for callback in self._callbacks:
            self.loop.call_soon(callback)
        return True

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Calls back soon after the end of the call, even if it has ended already."""
        if self.status:
            self.loop.call_soon(callback)
        else:
            self._callbacks.append(callback)

    async def begun(self) -> tuple[Metadatum, ...]:
        """The initial metadata, once the handler has sent them or its first message, or has ended."""
        await self._begun.wait()
        return self.initial or ()

    async def ended(self) -> CallStatus:
        await self._ended.wait()
        assert self.status
        return self.status
