"""A bounded queue of events between the threads that watch folders and the event loop that handles them."""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

MAX_EVENTS = 20_000


class FileEventType(Enum):
    """FOUND: the file exists, or its attributes changed. WRITTEN: a program writes to it, and the system will
    report when it is closed. COMPLETE: it was closed after writing, or renamed into place."""

    FOUND = auto()
    WRITTEN = auto()
    COMPLETE = auto()


class FolderEventType(Enum):
    """APPEARED: made, or moved to this place, possibly with files in it. GONE: deleted, or moved away.
    MISSED: not watched for a while, so that anything may have happened in it, and below."""

    APPEARED = auto()
    GONE = auto()
    MISSED = auto()


@dataclass(frozen=True, slots=True)
class FileEvent:
    """`path` is relative to the cameras folder; "" is that folder itself."""

    path: str
    type: FileEventType | FolderEventType


class FileEventQueue:
    """Created and emptied on the event loop, filled from any thread."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_events = max_events
        self._lock = threading.Lock()
        self._events: deque[FileEvent] = deque()
        self._lost = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._events) + self._lost

    def put(self, event: FileEvent) -> None:
        """Adds an event, unless it repeats the last one. If the queue is full, the event is lost."""
        with self._lock:
            was_empty = not self._events and not self._lost
            if len(self._events) < self._max_events:
                if not self._events or self._events[-1] != event:
                    self._events.append(event)
            else:
                self._lost = True
        if was_empty:
            self.wake()

    def mark_lost(self) -> None:
        """Records that events were lost: only a scan of the whole cameras folder finds out what happened."""
        with self._lock:
            self._lost = True
        self.wake()

    def wake(self) -> None:
        """Ends a `wait`. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def wait(self, timeout: float | None) -> None:
        """Waits for an event or a call of `wake`, for at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def take(self) -> tuple[list[FileEvent], bool]:
        """Removes and returns all events, in order, and whether any were lost."""
        with self._lock:
            events, lost = list(self._events), self._lost
            self._events.clear()
            self._lost = False
        return events, lost
