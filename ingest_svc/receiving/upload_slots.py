"""Bounds how many uploads are in progress, fairly among callers: many slow ones of one delay no other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mesh.problems import Exhausted

# In progress, of all callers and of one; and those of all that wait for their turn, and for how long.
MAX_UPLOADS, MAX_OF_CALLER = 64, 32
MAX_WAITING, WAITING_SECONDS = 256, 45.0


@dataclass(eq=False)
class _Waiting:
    caller_id: str
    granted: "asyncio.Future[None]"


class UploadSlots:
    def __init__(self) -> None:
        self._in_progress: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._idle = asyncio.Event()

    def __len__(self) -> int:
        """How many uploads are in progress or wait."""
        return self._in_progress.total() + len(self._waiting)

    async def until_none(self) -> None:
        """Waits until no upload is in progress or waits."""
        while len(self):
            self._idle.clear()
            await self._idle.wait()

    @asynccontextmanager
    async def held(self, caller_id: str) -> AsyncIterator[None]:
        """Waits for a slot. Raises Exhausted TOO_MANY_UPLOADS."""
        await self._acquire(caller_id)
        try:
            yield
        finally:
            self._release(caller_id)

    async def _acquire(self, caller_id: str) -> None:
        if self._has_room(caller_id):
            self._in_progress[caller_id] += 1
            return
        if len(self._waiting) >= MAX_WAITING:
            raise Exhausted("too many uploads wait; try again", "TOO_MANY_UPLOADS")
        waiting = _Waiting(caller_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        acquired = False
        try:
            async with asyncio.timeout(WAITING_SECONDS):
                await waiting.granted
            acquired = True
        except TimeoutError:
            raise Exhausted("too many uploads are in progress; try again", "TOO_MANY_UPLOADS") from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not acquired:  # the slot came too late
                self._release(caller_id)

    def _has_room(self, caller_id: str) -> bool:
        return self._in_progress.total() < MAX_UPLOADS and self._in_progress[caller_id] < MAX_OF_CALLER

    def _release(self, caller_id: str) -> None:
        self._in_progress[caller_id] -= 1
        self._idle.set()
        if not self._in_progress[caller_id]:
            del self._in_progress[caller_id]
        waiting = [one for one in self._waiting if self._has_room(one.caller_id)]
        if waiting:
            # Of the caller that has the fewest, the one that has waited longest.
            chosen = min(waiting, key=lambda one: self._in_progress[one.caller_id])
            self._waiting.remove(chosen)
            self._in_progress[chosen.caller_id] += 1
            chosen.granted.set_result(None)
