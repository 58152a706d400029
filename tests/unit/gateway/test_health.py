"""Liveness, readiness and metrics."""

import pytest

from tests.support.waiting import until
from tests.unit.gateway.client import connected
from tests.unit.gateway.conftest import SECRET, Gateway


@pytest.fixture(autouse=True)
def _ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 0.0)


async def test_liveness_needs_no_dependency(gateway: Gateway) -> None:
    gateway.missing["store"] = "away"
    assert (await gateway.client.get("/health")).status_code == 200


async def test_a_browser_finds_a_page_without_a_key(gateway: Gateway) -> None:
    del gateway.client.headers["x-api-key"]
    answer = await gateway.client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path in ("/graphql", "/health", "/ready", "/metrics", "/media/"):
        assert path in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (await gateway.client.head("/")).status_code == 200
    assert (await gateway.client.post("/")).status_code == 401
    assert (await gateway.client.options("/")).status_code == 401
    for path in ("/index.html", "/graphql", "/media/x"):
        assert (await gateway.client.get(path)).status_code == 401


async def test_readiness_names_dependencies_without_reasons(gateway: Gateway) -> None:
    response = await gateway.client.get("/ready")
    assert (response.status_code, response.json()) == (
        200,
        {"ready": True, "checks": {"kafka": True, "store": True}},
    )
    gateway.missing["kafka"] = "no route to 10.0.0.1 in /var/lib/kafka"
    response = await gateway.client.get("/ready")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "checks": {"kafka": False, "store": True}}
    gateway.missing.clear()
    assert (await gateway.client.get("/ready")).status_code == 200


async def test_readiness_is_cached(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 60.0)
    assert (await gateway.client.get("/ready")).status_code == 200
    gateway.missing["kafka"] = "away"
    assert (await gateway.client.get("/ready")).status_code == 200


async def test_metrics(served: Gateway) -> None:
    served.missing["kafka"] = "away"
    event = served.store.add_event(1)
    await served.client.get("/media/x")
    await served.client.get("/who/knows")
    await served.ask("{ __typename }")
    async with connected(served.url, x_api_key=SECRET) as client:
        await client.init()
        await client.subscribe("subscription { eventChanged { cursor } }")
        await until(lambda: served.feed.watching == 1)
        served.publish(event)
        await client.next()
        text = (await served.client.get("/metrics")).text
    lines = text.splitlines()
    assert 'lares_http_requests_total{path="graphql",status="200"} 1.0' in lines
    assert 'lares_http_requests_total{path="media",status="404"} 1.0' in lines
    assert 'lares_http_requests_total{path="other",status="404"} 1.0' in lines
    assert 'lares_dependency_ready{dependency="kafka"} 0.0' in lines
    assert 'lares_dependency_ready{dependency="store"} 1.0' in lines
    assert "lares_sockets 1.0" in lines
    assert "lares_deliveries_total 1.0" in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
