"""How far the store has read its topics."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Lag = Callable[[], Awaitable[int]]


@dataclass(frozen=True)
class StoreStatus:
    """Lags are in records not yet in the store; each raises Unavailable when the bus does not answer.

    `assessments_read` is set when reason.assessments.v1 was read to its end as of the start: no lease before.
    """

    detections_lag: Lag
    rejections_lag: Lag
    assessments_lag: Lag
    assessments_read: asyncio.Event = field(default_factory=asyncio.Event)
