"""Counters and gauges for Prometheus, one registry per gateway, beside what the process itself tells."""

import asyncio
from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LAG_SECONDS = 0.25
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
FIRST_PARTS = frozenset({"graphql", "media", "health", "ready", "metrics"})


class Metrics(Collector):
    """`others` are collected with it."""

    def __init__(self, *others: Collector) -> None:
        self._own = CollectorRegistry()
        self._requests = Counter(
            "lares_http_requests", "Requests answered.", ["path", "status"], registry=self._own
        )
        self._seconds = Histogram(
            "lares_http_request_seconds",
            "From request to the end of its answer.",
            ["path"],
            buckets=BUCKETS,
            registry=self._own,
        )
        self.sockets = Gauge("lares_sockets", "WebSockets open now.", registry=self._own)
        # Counted by hand: a Counter's lock costs as much as the rest of a delivery.
        self.deliveries = 0
        for collector in (self, *others):
            self._own.register(collector)
        self.lag = Gauge("lares_event_loop_lag_seconds", "How late the event loop runs.", registry=self._own)
        self._ready = Gauge(
            "lares_dependency_ready", "1 where a dependency is ready.", ["dependency"], registry=self._own
        )

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        yield CounterMetricFamily("lares_deliveries", "Answers sent to subscriptions.", self.deliveries)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """One request; what paths are counted by is bounded."""
        first = path[1:].partition("/")[0]
        label = first if first in FIRST_PARTS else "other"
        self._requests.labels(label, status).inc()
        self._seconds.labels(label).observe(seconds)

    def checked(self, dependency: str, ready: bool) -> None:
        self._ready.labels(dependency).set(ready)

    async def watch_lag(self) -> None:
        """Runs for ever: sleeps, and tells how much later than asked it woke."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.lag.set(max(0.0, loop.time() - due))

    def text(self) -> bytes:
        """In Prometheus's text format: this gateway's, then the process's."""
        return generate_latest(self._own) + generate_latest(REGISTRY)
