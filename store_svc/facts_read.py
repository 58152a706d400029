"""How far the topic of a kind's facts was read, by the clock: it says whether a lease may be granted."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from store_svc.times import EPOCH

Ends = Callable[[], Awaitable[Mapping[int, int]]]
Behind = Callable[[Mapping[int, int]], Awaitable[int]]


class FactsRead:
    """`ends` gives the topic's ends by partition; `behind` says how many records before such ends are not
    yet in the store. Both raise Unavailable where the bus does not answer."""

    def __init__(self, ends: Ends, behind: Behind, clock: Callable[[], datetime]) -> None:
        self._ends = ends
        self._behind = behind
        self._clock = clock
        self._until: datetime | None = None
        self._next: tuple[datetime, Mapping[int, int]] | None = None

    @property
    def until(self) -> datetime | None:
        """All facts that were on the topic at this time are in the store; None before a first end was
        reached. After the clock was set back it is a time before all others."""
        if self._until is not None and self._until > self._clock():
            self._until, self._next = EPOCH, None
        return self._until

    async def look(self) -> bool:
        """Whether an end has been reached now: that of this moment, or the one that an earlier look saw and
        did not reach. So it comes true some time, however many facts come."""
        if self._next is None:
            now = self._clock()  # before the ends are asked for
            self._next = now, await self._ends()
        at, ends = self._next
        if await self._behind(ends):
            return False
        self._until, self._next = at, None
        return True
