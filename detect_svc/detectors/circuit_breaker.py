"""The circuit breaker of one server. Pure: its owner waits, probes and sends requests."""

from enum import Enum


class BreakerState(Enum):
    CLOSED = "closed"  # the server gets requests
    OPEN = "open"  # it gets none until a probe succeeds
    HALF_OPEN = "half-open"  # a probe succeeded: one request shows whether the server works


class CircuitBreaker:
    """Starts open, and opens at the first failure.

    `failures` counts the failures since the last successful request. Successful probes do not reset it, so a
    server that passes its probes but fails its requests is left alone for longer and longer, too.
    """

    def __init__(self) -> None:
        self.state = BreakerState.OPEN
        self.failures = 0

    def record_failure(self) -> None:
        """Records that a request failed. All requests that were in flight when it opened count as one."""
        if self.state is not BreakerState.OPEN:
            self.failures += 1
        self.state = BreakerState.OPEN

    def record_probe(self, *, succeeded: bool) -> None:
        if not succeeded:
            self.failures += 1
            self.state = BreakerState.OPEN
        elif self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def record_success(self) -> None:
        """Records that a request succeeded. Ignored while open: the request was sent before the failure."""
        if self.state is not BreakerState.OPEN:
            self.state, self.failures = BreakerState.CLOSED, 0
