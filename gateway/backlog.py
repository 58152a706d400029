"""Gauges of what waits, who judges it and on what: read from the siblings when somebody scrapes.

A sibling that is away takes its numbers with it; what it last said would be a lie by then.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.siblings import Siblings
from lares.detect.v1.detect_service_pb2 import (
    GetDetectStatusRequest,
    GetDetectStatusResponse,
    GpuSample,
    ListGpusRequest,
    ListGpusResponse,
)
from lares.reason.v1.reason_service_pb2 import GetReasonStatusRequest, GetReasonStatusResponse, ReasonerState
from lares.store.v1.event_service_pb2 import GetStoreStatusRequest, GetStoreStatusResponse
from mesh.problems import Problem
from mesh.rpc import call
from mesh.security import as_itself

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

REMEMBERED_SECONDS = 1.0
DEADLINE_SECONDS = 2.0
STATES = {number: name.removeprefix("REASONER_STATE_") for name, number in ReasonerState.items() if number}
GPU_VALUES = {
    "utilization_ratio": ("utilization", "How busy, 0 to 1."),
    "memory_used_bytes": ("memory_used_bytes", "Memory taken."),
    "temperature_celsius": ("temperature_celsius", "Temperature."),
    "power_watts": ("power_watts", "Power drawn."),
}


class Backlog(Collector):
    """`ask` first, then collect."""

    def __init__(self, siblings: Siblings, clock: Callable[[], float] = time.time) -> None:
        self._siblings, self._clock = siblings, clock
        self._store: GetStoreStatusResponse | None = None
        self._judge: GetReasonStatusResponse | None = None
        self._detect: GetDetectStatusResponse | None = None
        self._gpus: ListGpusResponse | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._away: dict[str, str] = {}

    async def ask(self) -> None:
        """All siblings at once; remembered for a moment. Never fails. The gateway asks as itself, since the
        answers are for everybody."""
        with as_itself():
            await self._ask()

    async def _ask(self) -> None:
        async with self._asking:
            if time.monotonic() >= self._until:
                away: dict[str, str] = {}
                siblings = self._siblings
                self._store, self._judge, self._detect, self._gpus = await asyncio.gather(
                    _asked("store", away, lambda: siblings.events.GetStoreStatus, GetStoreStatusRequest()),
                    _asked("reason", away, lambda: siblings.reason.GetReasonStatus, GetReasonStatusRequest()),
                    _asked("detect", away, lambda: siblings.detect.GetDetectStatus, GetDetectStatusRequest()),
                    _asked("gpus", away, lambda: siblings.detect.ListGpus, ListGpusRequest()),
                )
                if away.keys() != self._away.keys():
                    log.info("metrics without", away=away)
                self._away, self._until = away, time.monotonic() + REMEMBERED_SECONDS

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        if self._store:
            yield from _waiting(self._store, self._clock())
        if self._judge:
            yield from _judging(self._judge)
        if self._detect:
            yield _servers(self._detect)
        if self._gpus:
            yield from _gpus(self._gpus)


async def _asked(
    part: str,
    away: dict[str, str],
    method: Callable[[], Callable[..., Awaitable[Answer]]],
    request: object,
) -> Answer | None:
    try:
        return await call(method(), request, timeout=DEADLINE_SECONDS)
    except Problem as problem:
        away[part] = problem.message
        return None


def _waiting(store: GetStoreStatusResponse, now: float) -> Iterable[Metric]:
    oldest = now - store.oldest_due_at.ToMicroseconds() / 1e6 if store.HasField("oldest_due_at") else 0.0
    yield GaugeMetricFamily("lares_backlog_events", "Events that wait for a judge.", store.due_events)
    yield GaugeMetricFamily(
        "lares_backlog_oldest_seconds", "For how long the first of them has waited.", max(0.0, oldest)
    )
    if store.HasField("eta"):
        seconds = store.eta.ToTimedelta().total_seconds()
        yield GaugeMetricFamily("lares_backlog_eta_seconds", "Until all are judged, at this pace.", seconds)


def _judging(judge: GetReasonStatusResponse) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "lares_reasoner_state", "1 for the state that the judge is in.", labels=["state"]
    )
    for number, name in STATES.items():
        state.add_metric([name.lower()], float(judge.state == number))
    yield state
    tokens = CounterMetricFamily("lares_reasoner_tokens", "Tokens of a judging model.", labels=["kind"])
    for kind in ("prompt", "cached", "completion"):
        tokens.add_metric([kind], getattr(judge, f"{kind}_tokens"))
    yield tokens


def _servers(detect: GetDetectStatusResponse) -> Metric:
    available = GaugeMetricFamily(
        "lares_detector_server_available", "0 while it is left alone after failures.", labels=["address"]
    )
    for server in detect.servers:
        available.add_metric([server.address], float(server.available))
    return available


def _gpus(answer: ListGpusResponse) -> Iterable[Metric]:
    total = GaugeMetricFamily("lares_gpu_memory_total_bytes", "Memory built in.", labels=["index", "name"])
    for gpu in answer.gpus:
        if gpu.memory_total_bytes:
            total.add_metric([str(gpu.index), gpu.name], gpu.memory_total_bytes)
    yield total
    for name, (field, text) in GPU_VALUES.items():
        family = GaugeMetricFamily(f"lares_gpu_{name}", text, labels=["index", "name"])
        for gpu in answer.gpus:
            if (value := _value(gpu.now, field)) is not None:
                family.add_metric([str(gpu.index), gpu.name], value)
        yield family


def _value(sample: GpuSample, field: str) -> float | None:
    return getattr(sample, field) if sample.HasField(field) else None  # type: ignore[arg-type]
