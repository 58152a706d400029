"""The HTTP endpoint of a process: what it says, and what it does not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.core import Metric

from deploy.mesh_factory import open_process_endpoint
from mesh.config import load_config
from mesh.problems import Unavailable
from mesh.readiness import Readiness
from mesh.telemetry.metrics import Instrument, Metrics
from tests.support.certificates import write_certificate

QUEUE = Instrument("lares_test_queue", "gauge", "What waits.", ("part",))
READ = Instrument("lares_test_read_total", "counter", "What was read.", ("part",))
SIZE = Instrument("lares_test_size", "histogram", "How large it is.", buckets=(10, 20))


@dataclass
class Endpoint:
    client: httpx.AsyncClient
    readiness: Readiness
    metrics: Metrics
    missing: dict[str, str]

    async def status(self, path: str) -> int:
        return (await self.client.get(path)).status_code


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("mesh.telemetry.metrics.FRESH_SECONDS", 0.0)
    readiness, metrics, missing = Readiness(), Metrics(), dict[str, str]()
    config = load_config(metrics_listen="127.0.0.1:0")
    async with (
        open_process_endpoint(config, readiness, metrics) as url,
        httpx.AsyncClient(base_url=url, timeout=90) as client,
    ):
        yield Endpoint(client, readiness, metrics, missing)


async def test_live_started_and_ready_mean_different_things(endpoint: Endpoint) -> None:
    async def answers() -> tuple[int, ...]:
        return tuple([await endpoint.status(path) for path in ("/live", "/started", "/ready")])

    assert await answers() == (200, 503, 503)  # before there are parts

    async def check() -> dict[str, str]:
        return dict(endpoint.missing)

    endpoint.missing["postgres"] = "no server answers at 10.0.0.7"
    endpoint.readiness.follow(check, ["postgres"])
    assert await answers() == (200, 503, 503)
    endpoint.missing.clear()
    endpoint.readiness.started = True
    assert await answers() == (200, 200, 200)
    endpoint.missing["postgres"] = "no server answers at 10.0.0.7"
    assert await answers() == (200, 200, 503)
    assert "10.0.0.7" not in (await endpoint.client.get("/ready")).text
    endpoint.missing.clear()
    endpoint.readiness.stopping = True
    assert await answers() == (200, 200, 503)


async def test_whoever_asks_can_leave_parts_out_but_not_that_it_starts_or_stops(endpoint: Endpoint) -> None:
    """For load balancers: a part that all replicas share is no reason to turn away from all of them."""

    async def check() -> dict[str, str]:
        return dict(endpoint.missing)

    endpoint.readiness.follow(check, ["kafka", "store", "certificate"])
    assert await endpoint.status("/ready?without=kafka,store,start,stop") == 503
    endpoint.readiness.started = True
    endpoint.missing.update(kafka="away", store="away")
    assert await endpoint.status("/ready?without=kafka") == 503
    response = await endpoint.client.get("/ready?without=kafka,store")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "checks": {"certificate": True, "kafka": False, "store": False}}
    assert await endpoint.status("/ready?without=kafka&without=store") == 200
    assert await endpoint.status("/ready") == 503
    endpoint.missing["certificate"] = "expired"
    assert await endpoint.status("/ready?without=kafka,store") == 503
    endpoint.missing.clear()
    endpoint.readiness.stopping = True
    assert await endpoint.status("/ready?without=kafka,store,start,stop") == 503


async def test_a_part_that_hangs_does_not_make_the_process_less_live(endpoint: Endpoint) -> None:
    async def check() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    endpoint.readiness.follow(check, ["kafka"])
    asking = asyncio.create_task(endpoint.status("/ready"))
    assert await endpoint.status("/live") == 200
    assert not asking.done()
    asking.cancel()


async def test_other_paths_and_methods(endpoint: Endpoint) -> None:
    assert await endpoint.status("/") == 404
    assert (await endpoint.client.post("/live")).status_code == 405
    assert (await endpoint.client.head("/live")).status_code == 200
    assert "server" not in (await endpoint.client.get("/live")).headers


async def test_metrics_are_measured_at_the_scrape_and_absent_if_that_fails(endpoint: Endpoint) -> None:
    waiting: float | None = 3.0

    async def measure() -> list[Metric]:
        if waiting is None:
            raise Unavailable("away", "AWAY")
        return [QUEUE.family({("a",): waiting})]

    async def measure_another() -> list[Metric]:
        return [QUEUE.family({("b",): 1})]

    with endpoint.metrics.sampling(measure), endpoint.metrics.sampling(measure_another):
        text = (await endpoint.client.get("/metrics")).text
        assert 'lares_test_queue{part="a"} 3.0\nlares_test_queue{part="b"} 1.0\n' in text
        assert text.count("# TYPE lares_test_queue gauge") == 1
        assert "process_cpu_seconds_total " in text
        waiting = None
        assert 'part="a"' not in (await endpoint.client.get("/metrics")).text
    assert "lares_test_queue" not in (await endpoint.client.get("/metrics")).text


async def test_a_measurement_that_hangs_is_absent_and_delays_the_others_for_a_while(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.telemetry.metrics.SAMPLE_SECONDS", 0.01)

    async def hang() -> list[Metric]:
        await asyncio.Event().wait()
        return []

    async def measure() -> list[Metric]:
        return [QUEUE.family({("a",): 1})]

    with endpoint.metrics.sampling(hang), endpoint.metrics.sampling(measure):
        assert 'lares_test_queue{part="a"} 1.0' in (await endpoint.client.get("/metrics")).text


async def test_many_scrapes_at_once_cause_one_measurement(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.telemetry.metrics.FRESH_SECONDS", 60.0)
    measured = 0

    async def measure() -> list[Metric]:
        nonlocal measured
        measured += 1
        return []

    with endpoint.metrics.sampling(measure):
        await asyncio.gather(*(endpoint.client.get("/metrics") for _ in range(5)))
    assert measured == 1


async def test_what_is_counted_has_the_labels_and_buckets_of_its_instrument(endpoint: Endpoint) -> None:
    endpoint.metrics.counter(READ).labels("a").inc(2)
    endpoint.metrics.histogram(SIZE).observe(15)
    text = (await endpoint.client.get("/metrics")).text
    assert 'lares_test_read_total{part="a"} 2.0\n' in text
    buckets = [line for line in text.splitlines() if line.startswith("lares_test_size_bucket")]
    assert buckets == [
        'lares_test_size_bucket{le="10.0"} 0.0',
        'lares_test_size_bucket{le="20.0"} 1.0',
        'lares_test_size_bucket{le="+Inf"} 1.0',
    ]


async def test_it_is_plain_http_although_there_is_a_certificate(tmp_path: Path) -> None:
    config = load_config(metrics_listen="127.0.0.1:0", **write_certificate(tmp_path))
    async with open_process_endpoint(config, Readiness(), Metrics()) as url:
        assert url.startswith("http://")
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/live")).status_code == 200


async def test_there_is_none_unless_it_is_set() -> None:
    async with open_process_endpoint(load_config(), Readiness(), Metrics()) as url:
        assert url == ""
