"""Whether one server is asked. Pure: who keeps it does the waiting and the looking."""

from enum import Enum

SHORTEST_SECONDS, LONGEST_SECONDS = 0.25, 10.0


class State(Enum):
    CLOSED = "closed"  # asked
    OPEN = "open"  # left alone until somebody has looked
    TRIAL = "trial"  # looked well: one request shows whether it works


class Breaker:
    """Begins open. Opens at the first failure; the pauses grow until a request succeeds, so that a server
    that looks well and fails is left alone for longer and longer, too."""

    def __init__(self) -> None:
        self.state = State.OPEN
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds to leave it alone before the next look."""
        return min(LONGEST_SECONDS, SHORTEST_SECONDS * 2.0 ** min(self._failures, 16))

    def fail(self) -> None:
        """A request or a look failed. Requests that were under way when it opened count for one."""
        if self.state is not State.OPEN:
            self._failures += 1
        self.state = State.OPEN

    def look(self, *, well: bool) -> None:
        if not well:
            self._failures += 1
            self.state = State.OPEN
        elif self.state is State.OPEN:
            self.state = State.TRIAL

    def succeed(self) -> None:
        """A request was answered. An answer that was under way when it opened proves nothing."""
        if self.state is not State.OPEN:
            self.state, self._failures = State.CLOSED, 0
