"""Waits until the watcher has reported everything that happened before.

Events arrive in order, so the event of a file that is made now arrives after all earlier ones.
"""

import asyncio
from pathlib import Path

BARRIER_NAME = ".lares.fence"
WAIT_SECONDS = 1.0


class WatchBarrier:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._loop = asyncio.get_running_loop()
        self._one_at_a_time = asyncio.Lock()
        self._expected, self._number = "", 0
        self._reached = asyncio.Event()

    def reached(self, name: str) -> None:
        """Call this for each event of a file whose name starts with BARRIER_NAME, from any thread."""
        self._loop.call_soon_threadsafe(self._compare, name)

    def _compare(self, name: str) -> None:
        # On the event loop, so that `wait` cannot move on to the next barrier between the two lines.
        if name == self._expected:  # a late event of an earlier barrier does not count
            self._reached.set()

    async def wait(self) -> bool:
        """Returns whether everything that happened before this call has been reported; False if that is
        unknown after WAIT_SECONDS."""
        async with self._one_at_a_time:
            self._number += 1
            self._expected = f"{BARRIER_NAME}.{self._number}"
            self._reached.clear()
            file = self._root / self._expected
            try:
                await asyncio.to_thread(file.touch)
                try:
                    async with asyncio.timeout(WAIT_SECONDS):
                        return await self._reached.wait()
                finally:
                    await asyncio.to_thread(file.unlink, missing_ok=True)
            except OSError:  # a TimeoutError, or the file cannot be made
                return False
