"""The far end of a sandbox: runs one function over what comes down a pipe, in a process that may die.

Imports only the standard library and what imports no more, so that a child holds no more than its function
needs.
A frame is two lengths (big-endian uint32), JSON, and the bytes that the JSON refers to.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from mesh.processes.landlock import deny_other_processes
from mesh.processes.seccomp import deny_connections

SIZES = struct.Struct("!II")
BYTES = "__bytes__"
# A child that outlives its deadline by this much ends by its own alarm: its parent is gone or hangs.
ALARM_GRACE_SECONDS = 2.0
PR_SET_PDEATHSIG = 1


class InputRefused(Exception):
    """What the function raises when its input is at fault; reaches the caller as Invalid.

    `reason` is UPPER_SNAKE and stable, `message` a sentence for people.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


def pack(value: object) -> bytes:
    """One frame. `value`: what JSON can say, and bytes anywhere in it. Raises TypeError, ValueError."""
    attached: list[bytes] = []

    def attach(item: object) -> object:
        if not isinstance(item, bytes | bytearray | memoryview):
            raise TypeError(f"{type(item).__name__} cannot pass a sandbox's pipe")
        start = sum(map(len, attached))
        attached.append(bytes(item))
        return {BYTES: [start, start + len(attached[-1])]}

    text = json.dumps(value, default=attach).encode()
    return b"".join((SIZES.pack(len(text), sum(map(len, attached))), text, *attached))


def unpack(text: bytes, attached: bytes) -> Any:
    """The value of a frame; tuples come back as lists. Raises ValueError for what is no JSON."""

    def detach(item: dict[str, Any]) -> Any:
        return attached[slice(*item[BYTES])] if BYTES in item else item

    return json.loads(text, object_hook=detach)


def main() -> None:
    """Takes its order from standard input, says that it is ready, then answers call after call."""
    die_with(int(sys.argv[1]))
    for polite in (signal.SIGINT, signal.SIGTERM):
        signal.signal(polite, signal.SIG_IGN)  # sent to the whole group; the parent ends this process itself
    requests, answers = _pipes()
    try:
        order = _read(requests)
        # First, for it does not reach threads that are there already, which the set-up may begin.
        apart = deny_other_processes()
        function = _load(order["target"], order["setup"])
        _limit(order["memory_bytes"], order["nice"])
        # Last, for what the set-up does is not of others' making: a GPU's driver may have to be asked.
        confined = deny_connections() and apart
    except InputRefused as refusal:
        _write(answers, pack({"refused": refusal.message, "reason": refusal.reason}))
        os._exit(1)
    except Exception as error:
        _write(answers, pack({"failed": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    _write(answers, pack({"result": {"confined": confined}}))
    seconds = order["seconds"] + ALARM_GRACE_SECONDS
    while (request := _read(requests)) is not None:
        # The default action of this signal ends the process, in the midst of native code too.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        answer = _answer(function, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answers, answer)
    os._exit(0)


def die_with(parent: int) -> None:
    """Ends this process when `parent` ends, however that happens. Elsewhere than on Linux the pipe's end and
    the alarm do it, later."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, out of the reach of code that prints."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _load(target: str, setup: list[object] | None) -> Callable[..., object]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function if setup is None else function(*setup)


def _limit(memory_bytes: int | None, niceness: int) -> None:
    """Bounds what broken native code can do to its host: memory, core dumps, files."""
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.nice(niceness)


def _answer(function: Callable[..., object], request: list[object]) -> bytes:
    try:
        return pack({"result": function(*request)})
    except InputRefused as refusal:
        return pack({"refused": refusal.message, "reason": refusal.reason})
    except Exception as error:
        return pack({"failed": f"{type(error).__name__}: {error}"})


def _read(requests: BinaryIO) -> Any:
    """The next frame's value; None when the parent has closed the pipe, or died within a frame."""
    head = requests.read(SIZES.size)
    if len(head) < SIZES.size:
        return None
    text, attached = (requests.read(size) for size in SIZES.unpack(head))
    try:
        return unpack(text, attached)
    except ValueError:
        return None


def _write(answers: BinaryIO, frame: bytes) -> None:
    try:
        answers.write(frame)
        answers.flush()
    except BrokenPipeError:
        os._exit(0)
