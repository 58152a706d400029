"""Whether one server is asked. Pure: who keeps it does the waiting and the looking."""

from enum import Enum

SHORTEST_SECONDS, LONGEST_SECONDS = 0.25, 10.0


class BreakerState(Enum):
    CLOSED = "closed"  # asked
    OPEN = "open"  # left alone until somebody has looked
    TRIAL = "trial"  # looked well: one request shows whether it works


class CircuitBreaker:
    """Begins open. Opens at the first failure; the pauses grow until a request succeeds, so that a server
    that looks well and fails is left alone for longer and longer, too."""

    def __init__(self) -> None:
        self.state = BreakerState.OPEN
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds to leave it alone before the next look."""
        return min(LONGEST_SECONDS, SHORTEST_SECONDS * 2.0 ** min(self._failures, 16))

    def fail(self) -> None:
        """A request or a look failed. Requests that were under way when it opened count for one."""
        if self.state is not BreakerState.OPEN:
            self._failures += 1
        self.state = BreakerState.OPEN

    def look(self, *, well: bool) -> None:
        if not well:
            self._failures += 1
            self.state = BreakerState.OPEN
        elif self.state is BreakerState.OPEN:
            self.state = BreakerState.TRIAL

    def succeed(self) -> None:
        """A request was answered. An answer that was under way when it opened proves nothing."""
        if self.state is not BreakerState.OPEN:
            self.state, self._failures = BreakerState.CLOSED, 0
