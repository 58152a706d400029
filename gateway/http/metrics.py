"""The gateway's own metrics, beside those of its process, in Prometheus's format."""

import asyncio
from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LAG_SECONDS = 1.0
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
PATH_LABELS = frozenset({"graphql", "media", "events", "health", "ready", "metrics"})


class GatewayMetrics(Collector):
    """Each gateway has its own registry, to which `others` are added."""

    def __init__(self, *others: Collector) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "lares_http_requests", "HTTP requests.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "lares_http_request_seconds",
            "From the request to the end of its response.",
            ["path"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._by_labels: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.sockets = Gauge("lares_sockets", "Open WebSockets.", registry=self._registry)
        # An int instead of a Counter, whose lock costs as much as the rest of sending a response.
        self.deliveries = 0
        for collector in (self, *others):
            self._registry.register(collector)
        self.lag = Gauge(
            "lares_event_loop_lag_seconds", "How late the event loop runs.", registry=self._registry
        )
        self._ready = Gauge(
            "lares_dependency_ready", "1 if a dependency is ready.", ["dependency"], registry=self._registry
        )

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        yield CounterMetricFamily("lares_deliveries", "Responses sent to subscriptions.", self.deliveries)

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request by the first part of its path, if the gateway serves it, so that the number of
        labels is bounded."""
        first = path[1:].partition("/")[0]
        count, duration = self._labelled(first if first in PATH_LABELS else "other", status)
        count.inc()
        duration.observe(seconds)

    def _labelled(self, label: str, status: int) -> tuple[Counter, Histogram]:
        """Remembers the metrics with these labels, because finding them costs more than changing them."""
        known = self._by_labels.get((label, status))
        if known is None:
            known = self._requests.labels(label, status), self._seconds.labels(label)
            self._by_labels[label, status] = known
        return known

    def set_ready(self, dependency: str, ready: bool) -> None:
        self._ready.labels(dependency).set(ready)

    async def measure_lag(self) -> None:
        """Measures how much later than requested a sleep ends. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.lag.set(max(0.0, loop.time() - due))

    def text(self) -> bytes:
        """Returns the metrics of this gateway, then those of the process."""
        return generate_latest(self._registry) + generate_latest(REGISTRY)
