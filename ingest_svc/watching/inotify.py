"""Linux's inotify(7), by its four system calls."""

import ctypes
import os
import select
import struct
from contextlib import suppress
from dataclasses import dataclass

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF = 0x400, 0x800
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
IN_ONLYDIR, IN_DONT_FOLLOW = 0x1000000, 0x2000000

WATCHED = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)
HEADER = struct.Struct("iIII")
BUFFER_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class InotifyEvent:
    """`name` is that of the entry of the watched folder; empty if the event is about the folder itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events. Raises OSError if the system has none to give, AttributeError or OSError where
    there is no inotify."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._queue = self._result(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._queue, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def add(self, folder: str) -> int:
        """Watches a folder, and returns the number of the watch. It belongs to the folder, whatever its name:
        adding a folder that is watched returns the same number. Raises OSError."""
        mask = WATCHED | IN_ONLYDIR | IN_DONT_FOLLOW
        return self._result(self._libc.inotify_add_watch(self._queue, os.fsencode(folder), mask))

    def remove(self, watch: int) -> None:
        """Does nothing if there is no such watch any more."""
        self._libc.inotify_rm_watch(self._queue, watch)

    def read(self, timeout: float) -> list[InotifyEvent]:
        """Waits for events, for at most `timeout` seconds, or until `wake`. Raises OSError."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(0.0, timeout) * 1000)}
        if self._woken in ready:
            os.read(self._woken, BUFFER_BYTES)
        return _events(os.read(self._queue, BUFFER_BYTES)) if self._queue in ready else []

    def wake(self) -> None:
        """Ends a `read`. May be called from any thread."""
        with suppress(BlockingIOError):  # it is full of calls that were not noticed yet
            os.write(self._waker, b"!")

    def close(self) -> None:
        for descriptor in (self._queue, self._woken, self._waker):
            os.close(descriptor)

    @staticmethod
    def _result(value: int) -> int:
        if value < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return value


def _events(buffer: bytes) -> list[InotifyEvent]:
    events, at = list[InotifyEvent](), 0
    while at < len(buffer):
        watch, mask, _, length = HEADER.unpack_from(buffer, at)
        at += HEADER.size
        events.append(InotifyEvent(watch, mask, os.fsdecode(buffer[at : at + length].rstrip(b"\0"))))
        at += length
    return events
