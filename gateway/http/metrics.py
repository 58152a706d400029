"""What is measured of the gateway's requests and sockets."""

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from mesh.telemetry.metrics import Instrument, Metrics

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
PATH_LABELS = frozenset({"graphql", "media", "events", "health", "ready", "metrics"})
REQUESTS = Instrument(
    "lares_http_requests_total",
    "counter",
    "HTTP requests to the gateway, by the first part of the path.",
    ("path", "status"),
)
REQUEST_SECONDS = Instrument(
    "lares_http_request_seconds",
    "histogram",
    "From a request to the end of its response.",
    ("path",),
    BUCKETS,
)
SOCKETS = Instrument("lares_sockets", "gauge", "Open WebSockets.")
DELIVERIES = Instrument("lares_deliveries_total", "counter", "Responses sent to subscriptions.")
INSTRUMENTS = (REQUESTS, REQUEST_SECONDS, SOCKETS, DELIVERIES)


class GatewayMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._requests, self._seconds = metrics.counter(REQUESTS), metrics.histogram(REQUEST_SECONDS)
        self._by_labels: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.sockets = metrics.gauge(SOCKETS)
        # An int instead of a Counter, whose lock costs as much as the rest of sending a response.
        self.deliveries = 0

    async def sample(self) -> list[Metric]:
        return [DELIVERIES.family({(): self.deliveries})]

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
