"""The main function of a sandbox's child process: reads calls from a pipe, runs them, and writes the results.

Imports only the standard library, directly and indirectly, so that a child holds no more than its function
needs. A frame on a pipe is two lengths (big-endian uint32), JSON, and the bytes that the JSON refers to. Of a
value that is bytes itself there is no JSON.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Generator
from typing import Any, BinaryIO

from mesh.processes.landlock import deny_other_processes
from mesh.processes.parent_death import die_with_parent
from mesh.processes.seccomp import restrict
from mesh.visible_text import without_addresses

SIZES = struct.Struct("!II")
BYTES = "__bytes__"
PROGRESS = "progress"
# A child that exceeds its deadline by this much is ended by its own alarm: its parent has ended or hangs.
ALARM_GRACE_SECONDS = 2.0
PR_SET_NO_NEW_PRIVS = 38


class InputRefused(Exception):
    """Raised by a function in a sandbox if its input is at fault. The caller receives it as Invalid.

    `reason` is UPPER_SNAKE and stable, `message` a sentence for people.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


def pack(value: object) -> bytes:
    """A frame with a value of JSON's types, and bytes anywhere in it. Raises TypeError or ValueError for any
    other value."""
    if isinstance(value, bytes):
        return SIZES.pack(0, len(value)) + value
    attached: list[bytes] = []

    def attach(item: object) -> object:
        if not isinstance(item, bytes | bytearray | memoryview):
            raise TypeError(f"{type(item).__name__} cannot be sent to or from a sandbox")
        start = sum(map(len, attached))
        attached.append(bytes(item))
        return {BYTES: [start, start + len(attached[-1])]}

    try:
        text = json.dumps(value).encode()  # the usual case; with options it is slower
    except TypeError:
        text = json.dumps(value, default=attach).encode()
    return b"".join((SIZES.pack(len(text), sum(map(len, attached))), text, *attached))


def unpack(text: bytes, attached: bytes) -> Any:
    """The value of a frame, with lists in place of tuples. Raises ValueError if `text` is not JSON."""
    if not text:
        return attached
    if BYTES.encode() not in text:
        return json.loads(text)

    def detach(item: dict[str, Any]) -> Any:
        return attached[slice(*item[BYTES])] if BYTES in item else item

    return json.loads(text, object_hook=detach)


def main() -> None:
    """Reads the sandbox's options from standard input, loads the target, and then runs call after call."""
    die_with_parent(int(sys.argv[1]))
    for polite in (signal.SIGINT, signal.SIGTERM):
        signal.signal(polite, signal.SIG_IGN)  # the parent ends this process, by SIGKILL
    requests, responses = _pipes()
    try:
        options = _read(requests)
        # Before the set-up, because Landlock does not reach threads that exist already.
        confined = _forbid_new_privileges() and deny_other_processes()
        function = _load(options["target"], options["setup"])
        _limit(options)
        # After the set-up, which reads nothing from outside and may have to connect to the driver of a GPU.
        # Without a limit on the size of files, nothing else keeps the child from writing to them.
        confined = restrict(read_only=options["output_bytes"] > 0) and confined
    except InputRefused as refusal:
        _write(responses, pack({"refused": refusal.message, "reason": refusal.reason}))
        os._exit(1)
    except Exception as error:
        _write(responses, pack({"failed": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    _write(responses, pack({"result": {"confined": confined}}))
    seconds = options["seconds"] + ALARM_GRACE_SECONDS
    while (request := _read(requests)) is not None:
        # The default action of this signal ends the process, even within native code.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        response = _respond(function, request, responses)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(responses, response)
    os._exit(0)


def _forbid_new_privileges() -> bool:
    """What the kernel demands before a process may restrict itself. False if it is not available."""
    if sys.platform != "linux":
        return False
    outcome: int = ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    return outcome == 0


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, moved to other descriptors so that code that prints cannot disturb them."""
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, responses


def _load(target: str, setup: list[object] | None) -> Callable[..., object]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function if setup is None else function(*setup)


def _limit(options: dict[str, Any]) -> None:
    """Limits the harm that faulty native code can do to the host: memory, time, core dumps, files."""
    limits = {
        resource.RLIMIT_AS: options["memory_bytes"],
        resource.RLIMIT_CPU: options["cpu_seconds"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: options["output_bytes"],
    }
    for limit, most in limits.items():
        if most is not None:
            resource.setrlimit(limit, (most, most))
    os.nice(options["nice"])


def _respond(function: Callable[..., object], request: list[object], responses: BinaryIO) -> bytes:
    try:
        result = function(*request)
        if isinstance(result, Generator):
            result = _result_of(result, responses)
        return pack(result if isinstance(result, bytes) else {"result": result})
    except InputRefused as refusal:
        return pack({"refused": without_addresses(refusal.message), "reason": refusal.reason})
    except Exception as error:
        return pack({"failed": without_addresses(f"{type(error).__name__}: {error}")})


def _result_of(work: Generator[float, None, object], responses: BinaryIO) -> object:
    """What a generator returns at its end. What it yields is written as progress."""
    while True:
        try:
            progress = next(work)
        except StopIteration as end:
            return end.value
        _write(responses, pack({PROGRESS: progress}))


def _read(requests: BinaryIO) -> Any:
    """The value of the next frame, or None if the pipe has ended, even within a frame."""
    head = requests.read(SIZES.size)
    if len(head) < SIZES.size:
        return None
    text, attached = (requests.read(size) for size in SIZES.unpack(head))
    try:
        return unpack(text, attached)
    except ValueError:
        return None


def _write(responses: BinaryIO, frame: bytes) -> None:
    try:
        responses.write(frame)
        responses.flush()
    except BrokenPipeError:
        os._exit(0)
