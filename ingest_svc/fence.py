"""Knowing that the watch has seen all that happened so far: events come in order, so one of our own, made
now, comes after all that came before."""

import asyncio
from pathlib import Path

NAME = ".lares.fence"
WAIT_SECONDS = 1.0


class Fence:
    """`passed` is called, from any thread, when an event of a file of ours is sighted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loop = asyncio.get_running_loop()
        self._one_at_a_time = asyncio.Lock()
        self._awaited, self._turn = "", 0
        self._sighted = asyncio.Event()

    def passed(self, name: str) -> None:
        if name == self._awaited:  # another one is late: it says nothing of what came since
            self._loop.call_soon_threadsafe(self._sighted.set)

    async def wait(self) -> bool:
        """Whether all that happened before this call is sighted: False where nobody knows within a second."""
        async with self._one_at_a_time:
            self._turn += 1
            self._awaited = f"{NAME}.{self._turn}"
            self._sighted.clear()
            file = self._root / self._awaited
            try:
                await asyncio.to_thread(file.touch)
                try:
                    async with asyncio.timeout(WAIT_SECONDS):
                        return await self._sighted.wait()
                finally:
                    await asyncio.to_thread(file.unlink, missing_ok=True)
            except OSError:  # TimeoutError is one; or the disk is full
                return False
