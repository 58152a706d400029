"""Between the threads that watch and the loop that works: a bounded queue that tells when it lost some."""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from ingest_svc.settling import Sign

MOST_KEPT = 20_000


class FolderSign(Enum):
    """APPEARED: made, or moved to here, perhaps with files in it. GONE: deleted, or moved away."""

    APPEARED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Sighting:
    """`path` is relative to the cameras folder; "" is that folder itself."""

    path: str
    sign: Sign | FolderSign


class Sightings:
    """Made and emptied on the event loop, filled from any thread."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._lock = threading.Lock()
        self._seen: deque[Sighting] = deque()
        self._lost = False
        self._news = asyncio.Event()
        # Some folders give no events: whoever works must look for himself.
        self.blind = False

    def __len__(self) -> int:
        return len(self._seen) + self._lost

    def put(self, sighting: Sighting) -> None:
        with self._lock:
            first = not self._seen and not self._lost
            if len(self._seen) < self._most:
                if not self._seen or self._seen[-1] != sighting:
                    self._seen.append(sighting)
            else:
                self._lost = True
        if first:
            self.wake()

    def lose(self) -> None:
        """Something was missed: only a fresh look at the whole folder tells what."""
        with self._lock:
            self._lost = True
        self.wake()

    def wake(self) -> None:
        """Ends a `wait`; from any thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, timeout: float | None) -> None:
        """Until something is there, or `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def take(self) -> tuple[list[Sighting], bool]:
        """All there is, in order, and whether something was lost."""
        with self._lock:
            seen, lost = list(self._seen), self._lost
            self._seen.clear()
            self._lost = False
        return seen, lost
