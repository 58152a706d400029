"""A machine that is suspended: only CLOCK_BOOTTIME tells for how long."""

import time

import pytest

from mesh import lease_clock


class Suspension:
    """It has lasted for `seconds`, so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._real = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", self._gettime)

    def _gettime(self, clock: int) -> float:
        return self._real(clock) + (self.seconds if clock == lease_clock.CLOCK else 0.0)
