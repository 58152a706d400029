"""How long to leave alone what does not answer."""

import random


class Backoff:
    """Pauses that double from `first` to `most` seconds, each shortened at random by up to a half.

    `failures` counts those since it last worked.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._next = first
        self.failures = 0

    def failed(self) -> float:
        """Seconds to wait now."""
        self.failures += 1
        pause, self._next = self._next, min(self._next * 2, self._most)
        return pause * random.uniform(0.5, 1)  # noqa: S311  # jitter, no secret

    def worked(self) -> None:
        self._next, self.failures = self._first, 0
