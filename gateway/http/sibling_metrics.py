"""Metrics about the queue, the reasoner, the detector's servers and the GPUs, read from the siblings when
Prometheus scrapes.

If a sibling is not available its metrics are absent. Its last numbers would be wrong by then. There are no
counters among them: a sum over replicas falls whenever one is silent or starts again, which looks like a
counter that began anew. Each process has its own (mesh.telemetry.metrics).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import replicas
from gateway.siblings import Siblings
from lares.detect.v1.detect_service_pb2 import (
    GetDetectStatusResponse,
    GpuSample,
    ListGpusResponse,
)
from lares.reason.v1.reason_service_pb2 import GetReasonStatusResponse, ReasonerState
from lares.store.v1.event_service_pb2 import GetStoreStatusRequest, GetStoreStatusResponse
from mesh.problems import Problem
from mesh.rpc import call
from mesh.security import as_itself

log = structlog.get_logger(__name__)

Response = TypeVar("Response")

CACHE_SECONDS = 1.0
TIMEOUT_SECONDS = 2.0
STATES = {number: name.removeprefix("REASONER_STATE_") for name, number in ReasonerState.items() if number}
# The metric's name, after `lares_gpu_`, to the field of a sample and the metric's help text.
GPU_VALUES = {
    "utilization_ratio": ("utilization", "How busy the GPU is, 0 to 1."),
    "memory_used_bytes": ("memory_used_bytes", "GPU memory in use."),
    "temperature_celsius": ("temperature_celsius", "Temperature of the GPU."),
    "power_watts": ("power_watts", "Power that the GPU draws."),
}


class SiblingMetrics(Collector):
    """Await `refresh`, then collect."""

    def __init__(self, siblings: Siblings, clock: Callable[[], float] = time.time) -> None:
        self._siblings, self._clock = siblings, clock
        self._store: GetStoreStatusResponse | None = None
        self._reason: GetReasonStatusResponse | None = None
        self._detect: GetDetectStatusResponse | None = None
        self._gpus: ListGpusResponse | None = None
        self._cached_until = 0.0
        self._refreshing = asyncio.Lock()
        self._unavailable: dict[str, str] = {}

    async def refresh(self) -> None:
        """Asks all siblings at once, unless their last responses are still fresh. Never raises. The gateway
        asks as itself, because the responses are shared by all callers."""
        with as_itself():
            await self._refresh()

    async def _refresh(self) -> None:
        async with self._refreshing:
            if time.monotonic() >= self._cached_until:
                unavailable: dict[str, str] = {}
                siblings = self._siblings
                request, timeout = GetStoreStatusRequest(), TIMEOUT_SECONDS
                self._store, self._reason, self._detect, self._gpus = await asyncio.gather(
                    _ask(
                        "store", unavailable, call(siblings.events.GetStoreStatus, request, timeout=timeout)
                    ),
                    _ask("reason", unavailable, replicas.reason_status(siblings, timeout)),
                    _ask("detect", unavailable, replicas.detect_status(siblings, timeout)),
                    _ask("gpus", unavailable, replicas.list_gpus(siblings, 0, timeout)),
                )
                if unavailable.keys() != self._unavailable.keys():
                    log.info("metrics of siblings changed", unavailable=unavailable)
                self._unavailable, self._cached_until = unavailable, time.monotonic() + CACHE_SECONDS

    async def text(self) -> bytes:
        await self.refresh()
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """Called by `generate_latest`."""
        if self._store:
            yield from _queue(self._store, self._clock())
        if self._reason:
            yield _reasoner_state(self._reason)
        if self._detect:
            yield _detector_servers(self._detect)
        if self._gpus:
            yield from _gpus(self._gpus)


async def _ask(part: str, unavailable: dict[str, str], asked: Awaitable[Response]) -> Response | None:
    """Returns None, with the reason in `unavailable`, if the sibling is unknown or does not respond."""
    try:
        return await asked
    except Problem as problem:
        unavailable[part] = problem.message
        return None


def _queue(store: GetStoreStatusResponse, now: float) -> Iterable[Metric]:
    oldest = now - store.oldest_due_at.ToMicroseconds() / 1e6 if store.HasField("oldest_due_at") else 0.0
    yield GaugeMetricFamily("lares_backlog_events", "Events that wait to be assessed.", store.due_events)
    yield GaugeMetricFamily(
        "lares_backlog_oldest_seconds", "How long the first of them has waited.", max(0.0, oldest)
    )
    yield GaugeMetricFamily(
        "lares_waiting_renditions", "Pictures and clips that wait to be made.", store.waiting_renditions
    )
    yield GaugeMetricFamily(
        "lares_rendition_bytes", "The size of those that were made and are kept.", store.rendition_bytes
    )
    if store.HasField("eta"):
        seconds = store.eta.ToTimedelta().total_seconds()
        yield GaugeMetricFamily(
            "lares_backlog_eta_seconds", "Until all are assessed, at the present rate.", seconds
        )


def _reasoner_state(reason: GetReasonStatusResponse) -> Metric:
    state = GaugeMetricFamily(
        "lares_reasoner_state", "1 for the state that the reasoner is in.", labels=["state"]
    )
    for number, name in STATES.items():
        state.add_metric([name.lower()], float(reason.state == number))
    return state


def _detector_servers(detect: GetDetectStatusResponse) -> Metric:
    available = GaugeMetricFamily(
        "lares_detector_server_available",
        "0 while the server is not used, after failures.",
        labels=["address"],
    )
    for server in detect.servers:
        available.add_metric([server.address], float(server.available))
    return available


def _gpus(response: ListGpusResponse) -> Iterable[Metric]:
    labels = _gpu_labels(response)
    total = GaugeMetricFamily(
        "lares_gpu_memory_total_bytes", "GPU memory built in.", labels=["index", "name"]
    )
    for gpu, of_gpu in zip(response.gpus, labels, strict=True):
        if gpu.memory_total_bytes:
            total.add_metric(of_gpu, gpu.memory_total_bytes)
    yield total
    for name, (field, text) in GPU_VALUES.items():
        family = GaugeMetricFamily(f"lares_gpu_{name}", text, labels=["index", "name"])
        for gpu, of_gpu in zip(response.gpus, labels, strict=True):
            if (value := _value(gpu.now, field)) is not None:
                family.add_metric(of_gpu, value)
        yield family


def _gpu_labels(response: ListGpusResponse) -> list[tuple[str, str]]:
    """The index of each GPU, or its UUID if GPUs of several machines have one index, and its name."""
    times = Counter(gpu.index for gpu in response.gpus)
    return [(str(gpu.index) if times[gpu.index] == 1 else gpu.uuid, gpu.name) for gpu in response.gpus]


def _value(sample: GpuSample, field: str) -> float | None:
    return getattr(sample, field) if sample.HasField(field) else None  # type: ignore[arg-type]
