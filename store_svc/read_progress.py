"""How far the topic of a kind's facts was read, by the clock: it decides whether a lease may be granted."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from store_svc.times import EPOCH

Ends = Callable[[], Awaitable[Mapping[int, int]]]
Behind = Callable[[Mapping[int, int]], Awaitable[int]]


class ReadProgress:
    """`ends` returns the topic's ends by partition; `behind` returns how many records before given ends are
    not in the store yet. Both raise Unavailable if the bus does not respond."""

    def __init__(self, ends: Ends, behind: Behind, clock: Callable[[], datetime]) -> None:
        self._ends = ends
        self._behind = behind
        self._clock = clock
        self._until: datetime | None = None
        self._next: tuple[datetime, Mapping[int, int]] | None = None

    @property
    def until(self) -> datetime | None:
        """All facts that were on the topic at this time are in the store. None until the topic was read to an
        end for the first time; EPOCH after the clock was set back."""
        if self._until is not None and self._until > self._clock():
            self._until, self._next = EPOCH, None
        return self._until

    async def update(self) -> bool:
        """Returns whether an end has been reached now: the end of this moment, or the one that an earlier
        call asked for and did not reach. So it succeeds at some time, however many facts arrive."""
        if self._next is None:
            now = self._clock()  # before the ends are asked for
            self._next = now, await self._ends()
        at, ends = self._next
        if await self._behind(ends):
            return False
        self._until, self._next = at, None
        return True
