"""What a process measures of itself, in Prometheus's format.

Whoever measures something declares an `Instrument` and gets its metric from the `Metrics` of the process.
docs/metrics.md lists all instruments.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

# How long what is measured at a scrape may take, and for how long the result is kept.
SAMPLE_SECONDS = 4.0
FRESH_SECONDS = 1.0
LAG_SECONDS = 1.0
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Instrument:
    """A metric: its name as Prometheus shows it (a counter's ends in `_total`), its kind, what it means and
    its labels. Labels have few values, and none that a client chooses."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS

    def family(self, values: Mapping[Any, float]) -> Metric:
        """What was measured at a scrape, by the tuple of the labels' values."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.meaning, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


EVENT_LOOP_LAG = Instrument("lares_event_loop_lag_seconds", "gauge", "How late the event loop runs.")
INSTRUMENTS = (EVENT_LOOP_LAG,)

# Measures something at a scrape. What it raises makes the metric absent, since an old number would be wrong.
Sample = Callable[[], Awaitable[Iterable[Metric]]]


class Metrics(Collector):
    """The metrics of one process. The metric of an instrument is made when somebody first asks for it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._made: dict[str, Histogram | Counter | Gauge] = {}
        self._samples: list[Sample] = []
        self._sampled: list[Metric] = []
        self._fresh_until = 0.0
        self._sampling = asyncio.Lock()

    def histogram(self, instrument: Instrument) -> Histogram:
        return cast("Histogram", self._metric(instrument))

    def counter(self, instrument: Instrument) -> Counter:
        return cast("Counter", self._metric(instrument))

    def gauge(self, instrument: Instrument) -> Gauge:
        return cast("Gauge", self._metric(instrument))

    def _metric(self, instrument: Instrument) -> Histogram | Counter | Gauge:
        made = self._made.get(instrument.name)
        if made is None:
            name, text, labels = instrument.name, instrument.meaning, instrument.labels
            if instrument.kind == "histogram":
                made = Histogram(name, text, labels, buckets=instrument.buckets, registry=self._registry)
            else:
                kind = Counter if instrument.kind == "counter" else Gauge
                made = kind(name, text, labels, registry=self._registry)
            self._made[instrument.name] = made
        return made

    @contextmanager
    def sampling(self, sample: Sample) -> Iterator[None]:
        """Within the block, `sample` is awaited before each scrape."""
        self._samples.append(sample)
        try:
            yield
        finally:
            self._samples.remove(sample)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        return self._sampled

    async def text(self) -> bytes:
        """All metrics of this process, with those of Python and the operating system."""
        async with self._sampling:
            if time.monotonic() >= self._fresh_until:
                taken = await asyncio.gather(*map(_taken, self._samples))
                self._sampled = _merged(metric for metrics in taken for metric in metrics)
                self._fresh_until = time.monotonic() + FRESH_SECONDS
        return generate_latest(self._registry) + generate_latest(REGISTRY)

    async def measure_lag(self) -> None:
        """Measures how much later than requested a sleep ends. Runs until cancelled."""
        loop, lag = asyncio.get_running_loop(), self.gauge(EVENT_LOOP_LAG)
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            lag.set(max(0.0, loop.time() - due))


async def _taken(sample: Sample) -> list[Metric]:
    try:
        async with asyncio.timeout(SAMPLE_SECONDS):
            return list(await sample())
    except Exception as error:
        log.debug("metric is absent", error=str(error) or type(error).__name__)
        return []


def _merged(metrics: Iterable[Metric]) -> list[Metric]:
    """One family for each name: several streams of a process measure the same instrument."""
    families: dict[str, Metric] = {}
    for metric in metrics:
        if (family := families.setdefault(metric.name, metric)) is not metric:
            family.samples.extend(metric.samples)
    return list(families.values())
