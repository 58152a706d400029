"""Knowing that the watch has seen all that happened so far: events come in order, so one of our own, made
now, comes after all that came before."""

import asyncio
import os
from pathlib import Path

NAME = ".lares.fence"
WAIT_SECONDS = 1.0


class Fence:
    """`passed` is called, from any thread, when the event of our own file is sighted."""

    def __init__(self, root: Path) -> None:
        self._file = root / NAME
        self._file.touch()
        self._loop = asyncio.get_running_loop()
        self._one_at_a_time = asyncio.Lock()
        self._sighted = asyncio.Event()

    def passed(self) -> None:
        self._loop.call_soon_threadsafe(self._sighted.set)

    async def wait(self) -> None:
        """Until all that happened before this call is sighted; gives up after a second."""
        async with self._one_at_a_time:
            self._sighted.clear()
            try:
                await asyncio.to_thread(os.utime, self._file)
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._sighted.wait()
            except FileNotFoundError:
                self._file.touch()
            except TimeoutError:
                return
