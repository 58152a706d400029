"""The metrics that are read from siblings, how many calls they cost, and what happens if one is
unavailable."""

import asyncio
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.http.sibling_metrics import SiblingMetrics
from gateway.siblings import Siblings
from lares.reason.v1 import reason_service_pb2
from mesh.problems import Unavailable
from mesh.rpc import Channels
from mesh.security import as_itself
from tests.unit.gateway.conftest import Gateway

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ASKED = ("GetStoreStatus", "GetReasonStatus", "GetDetectStatus", "ListGpus")


@pytest.fixture
def _ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.sibling_metrics.CACHE_SECONDS", 0.0)


async def lines(gateway: Gateway) -> list[str]:
    response = await gateway.client.get("/metrics")
    assert response.status_code == 200
    found = ("lares_backlog", "lares_reasoner", "lares_detector", "lares_gpu")
    return [line for line in response.text.splitlines() if line.startswith(found)]


def busy(gateway: Gateway) -> None:
    store = gateway.store
    store.status.due_events = 5
    store.status.oldest_due_at.GetCurrentTime()
    store.status.oldest_due_at.seconds -= 100
    store.status.eta.FromMilliseconds(90_500)
    store.reason = reason_service_pb2.GetReasonStatusResponse(
        state=reason_service_pb2.REASONER_STATE_FAILING,
    )
    store.detect.servers.add(address="a:8001", available=True)
    store.detect.servers.add(address="b:8001")
    gpu = store.gpus.gpus.add(index=0, name="H200", memory_total_bytes=2**37)
    gpu.now.utilization, gpu.now.memory_used_bytes, gpu.now.power_watts = 0.5, 2**36, 0.0
    store.gpus.gpus.add(index=1, name="T4").now.SetInParent()


async def test_every_metric_of_the_siblings(gateway: Gateway) -> None:
    busy(gateway)
    metrics = await lines(gateway)
    (oldest,) = [line for line in metrics if line.startswith("lares_backlog_oldest_seconds ")]
    assert 100 <= float(oldest.split()[1]) < 300
    metrics.remove(oldest)
    assert sorted(metrics) == [
        "lares_backlog_eta_seconds 90.5",
        "lares_backlog_events 5.0",
        'lares_detector_server_available{address="a:8001"} 1.0',
        'lares_detector_server_available{address="b:8001"} 0.0',
        'lares_gpu_memory_total_bytes{index="0",name="H200"} 1.37438953472e+11',
        'lares_gpu_memory_used_bytes{index="0",name="H200"} 6.8719476736e+10',
        'lares_gpu_power_watts{index="0",name="H200"} 0.0',
        'lares_gpu_utilization_ratio{index="0",name="H200"} 0.5',
        'lares_reasoner_state{state="failing"} 1.0',
        'lares_reasoner_state{state="loading"} 0.0',
        'lares_reasoner_state{state="ready"} 0.0',
        'lares_reasoner_state{state="unreachable"} 0.0',
    ]


async def test_the_documentation_lists_every_metric(gateway: Gateway) -> None:
    busy(gateway)
    text = (await gateway.client.get("/metrics")).text
    metrics = set(re.findall(r"^# TYPE (lares_\w+)", text, re.MULTILINE))
    named = set(re.findall(r"^\| `(lares_\w+)", PAGE.read_text(), re.MULTILINE))
    assert len(named) > 20
    assert {name for name in metrics if not name.endswith("_created")} <= named


async def test_nothing_of_siblings_is_a_counter(gateway: Gateway) -> None:
    """As a sum over replicas it falls whenever one is silent, and `rate()` takes that for a new beginning."""
    busy(gateway)
    metrics = SiblingMetrics(gateway.siblings)
    with as_itself():
        await metrics.refresh()
    assert {metric.type for metric in metrics.collect()} == {"gauge"}


async def test_an_empty_queue(gateway: Gateway) -> None:
    metrics = await lines(gateway)
    assert "lares_backlog_events 0.0" in metrics
    assert "lares_backlog_oldest_seconds 0.0" in metrics
    assert "lares_backlog_eta_seconds 0.0" in metrics


async def test_without_a_rate_there_is_no_estimate(gateway: Gateway) -> None:
    gateway.store.status.due_events = 1
    gateway.store.status.ClearField("eta")
    assert not any("eta" in line for line in await lines(gateway))


async def test_no_event_has_waited_for_a_negative_time(gateway: Gateway) -> None:
    """The store's clock may be ahead of the gateway's."""
    gateway.store.status.oldest_due_at.GetCurrentTime()
    gateway.store.status.oldest_due_at.seconds += 500
    assert "lares_backlog_oldest_seconds 0.0" in await lines(gateway)


async def test_scrapes_in_quick_succession_share_their_calls(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.sibling_metrics.CACHE_SECONDS", 600.0)
    first, *others = await asyncio.gather(*(lines(gateway) for _ in range(5)))
    assert [line.split()[0] for line in first] == [line.split()[0] for line in others[-1]]
    assert {method: gateway.store.calls[method] for method in ASKED} == dict.fromkeys(ASKED, 1)


@pytest.mark.usefixtures("_ask_anew")
@pytest.mark.parametrize(
    ("method", "gone"),
    [
        ("GetStoreStatus", "lares_backlog"),
        ("GetReasonStatus", "lares_reasoner"),
        ("GetDetectStatus", "lares_detector_server"),
        ("ListGpus", "lares_gpu"),
    ],
)
async def test_the_metrics_of_an_unavailable_sibling_are_absent(
    gateway: Gateway, method: str, gone: str
) -> None:
    busy(gateway)
    before = {line.split()[0] for line in await lines(gateway)}
    gateway.store.failing[method] = Unavailable("no route", "AWAY")
    with capture_logs() as logs:
        for _ in range(2):
            metrics = {line.split()[0] for line in await lines(gateway)}
    assert metrics == {name for name in before if not name.startswith(gone)}
    assert len([line for line in logs if line["event"] == "metrics of siblings changed"]) == 1
    del gateway.store.failing[method]
    assert {line.split()[0] for line in await lines(gateway)} == before


async def test_a_sibling_that_does_not_respond_in_time_is_unavailable(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(gateway)
    monkeypatch.setattr("gateway.http.sibling_metrics.TIMEOUT_SECONDS", 0.3)
    gateway.store.answering.clear()
    assert await lines(gateway) == []


async def test_siblings_that_do_not_run_or_are_not_configured_are_unavailable(tmp_path: Path) -> None:
    channels = Channels({}, {"store": f"unix:{tmp_path}/nothing"})
    backlog = SiblingMetrics(Siblings(channels.to))
    with capture_logs() as logs:
        await backlog.refresh()
    assert list(backlog.collect()) == []
    (metrics,) = [line for line in logs if line["event"] == "metrics of siblings changed"]
    assert metrics["unavailable"].keys() == {"store", "reason", "detect", "gpus"}
    await channels.close()


async def test_metrics_need_a_key(gateway: Gateway) -> None:
    response = await gateway.client.get("/metrics", headers={"x-api-key": "wrong"})
    assert response.status_code == 401
    assert not gateway.store.calls["GetReasonStatus"]
