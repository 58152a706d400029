"""How far the store has read its topics."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Lag = Callable[[], Awaitable[int]]


@dataclass(frozen=True)
class StoreStatus:
    """Lags are in records not yet in the store; each raises Unavailable when the bus does not answer."""

    detections_lag: Lag
    rejections_lag: Lag
    assessments_lag: Lag
