"""How far the store has read its topics, and who judges what is due."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lares.reason.v1.reason_service_pb2 import GetReasonStatusResponse

Lag = Callable[[], Awaitable[int]]
Judge = Callable[[], Awaitable[GetReasonStatusResponse]]


@dataclass(frozen=True)
class StoreStatus:
    """Lags are in records not yet in the store; each raises Unavailable when the bus does not answer. `judge`
    says how it is doing, and raises nothing.

    `assessments_read` is set when reason.assessments.v1 was read to its end as of the start: no lease before.
    """

    detections_lag: Lag
    rejections_lag: Lag
    assessments_lag: Lag
    judge: Judge
    assessments_read: asyncio.Event = field(default_factory=asyncio.Event)
