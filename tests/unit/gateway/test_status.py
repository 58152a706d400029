"""The reasoner, the detector's servers and the GPUs in `status`, and how many calls they cost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from gateway.schema.reasoner import ReasonerState
from lares.reason.v1 import reason_service_pb2
from mesh.problems import Internal, Unavailable
from tests.support.waiting import until
from tests.unit.gateway.conftest import Gateway, open_gateway
from tests.unit.gateway.fake_store import NOON

# Of an idle Lares.
FLOW = {"GetIngestStatus": 1, "GetDetectStatus": 2, "GetStoreStatus": 2}
STATUS = """{ status { idle ingest { settling scanning problem } detect { lag ready detail problem }
  store { sequence openEvents problem } } }"""
REASON = """{ status { reason { reasoner state detail since model models prompt prompts slots assessing
  assessed failed promptTokens cachedTokens completionTokens } } }"""
GPUS = """query($minutes: Int) { status { gpus(minutes: $minutes) { index uuid name memoryTotalBytes
  now { at utilization memoryUsedBytes temperatureCelsius powerWatts }
  history { at utilization } } } }"""


async def test_only_selected_parts_are_requested(gateway: Gateway) -> None:
    gateway.store.reason.state = reason_service_pb2.REASONER_STATE_READY
    cases: list[tuple[str, dict[str, int]]] = [
        ("idle", {}),
        ("idle ingest { settling } detect { lag servers { address } } store { etaSeconds }", {}),
        ("idle reason { state }", {"GetReasonStatus": 1}),
        ("gpus { name } reason { state }", {"GetReasonStatus": 1, "ListGpus": 1}),
        ("idle watchProblem", {"GetWatchPolicy": 1}),
    ]
    for fields, more in cases:
        gateway.store.clear_calls()
        await gateway.ask(f"{{ status {{ {fields} }} }}")
        del gateway.store.calls["VerifyKey"]
        assert gateway.store.calls == FLOW | more, fields


async def test_every_field_of_the_reasoner(gateway: Gateway) -> None:
    message = reason_service_pb2.GetReasonStatusResponse(
        reasoner="llama.cpp",
        state=reason_service_pb2.REASONER_STATE_LOADING,
        detail="it reads its model",
        model="smol",
        models=["smol", "large"],
        prompt="v1",
        prompts=["v1"],
        slots=4,
        assessing=2,
        assessed=7,
        failed=1,
        prompt_tokens=2**40,
        cached_tokens=2**39,
        completion_tokens=5,
    )
    message.since.FromDatetime(NOON)
    gateway.store.reason = message
    status = (await gateway.ask(REASON))["status"]["reason"]
    assert status == {
        "reasoner": "llama.cpp",
        "state": "LOADING",
        "detail": "it reads its model",
        "since": "2026-11-21T12:00:00+00:00",
        "model": "smol",
        "models": ["smol", "large"],
        "prompt": "v1",
        "prompts": ["v1"],
        "slots": 4,
        "assessing": 2,
        "assessed": 7,
        "failed": 1,
        "promptTokens": 2**40,
        "cachedTokens": 2**39,
        "completionTokens": 5,
    }


async def test_an_unavailable_reasoner_is_a_state_and_not_an_error(gateway: Gateway) -> None:
    gateway.store.failing["GetReasonStatus"] = Unavailable("no route", "AWAY")
    response = await gateway.ask("{ status { idle reason { state detail since reasoner slots } } }")
    assert response["status"] == {
        "idle": True,
        "reason": {
            "state": "UNREACHABLE",
            "detail": "reason_svc does not respond: no route",
            "since": None,
            "reasoner": "",
            "slots": 0,
        },
    }


@pytest.mark.parametrize("state", [reason_service_pb2.REASONER_STATE_UNSPECIFIED, 99])
async def test_a_state_that_a_newer_reasoner_has_is_unknown(
    gateway: Gateway, state: reason_service_pb2.ReasonerState.ValueType
) -> None:
    """As during an upgrade."""
    gateway.store.reason.state, gateway.store.reason.detail = state, "it thinks"
    status = (await gateway.ask("{ status { idle reason { state detail } } }"))["status"]
    assert status == {"idle": True, "reason": {"state": "UNKNOWN", "detail": "it thinks"}}
    shown = (await gateway.client.get("/metrics")).text
    values = [line.split()[1] for line in shown.splitlines() if line.startswith("lares_reasoner_state{")]
    assert values == ["0.0"] * 4


async def test_a_reasoner_that_is_not_configured_is_unreachable(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, without="reason") as gateway:
        status = (await gateway.ask("{ status { idle reason { state detail } } }"))["status"]
    assert (status["idle"], status["reason"]["state"]) == (True, "UNREACHABLE")
    assert "LARES_PEERS" in status["reason"]["detail"]


async def test_a_reasoner_that_does_not_respond_is_unreachable(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.schema.reasoner.TIMEOUT_SECONDS", 0.2)
    gateway.store.waiting["GetReasonStatus"] = asyncio.Event()
    status = (await gateway.ask("{ status { idle reason { state detail } } }"))["status"]
    assert (status["idle"], status["reason"]["state"]) == (True, "UNREACHABLE")
    assert status["reason"]["detail"].startswith("reason_svc does not respond: ")


def sampled(gpu: Any, second: int, **values: Any) -> Any:
    gpu.at.FromSeconds(1_700_000_000 + second)
    for name, value in values.items():
        setattr(gpu, name, value)
    return gpu


async def test_services_that_are_away_are_problems_and_no_errors_and_not_idle(gateway: Gateway) -> None:
    """Programs that follow `status` go on, and people read what is wrong."""
    gateway.store.status.sequence = 7
    well = (await gateway.ask(STATUS))["status"]
    assert well["idle"] is True
    for service, unknown in (
        ("ingest", {"settling": 0, "scanning": True}),
        ("detect", {"lag": 0, "ready": False, "detail": "the state of detect_svc is not known: no route"}),
        ("store", {"sequence": "", "openEvents": 0}),
    ):
        gateway.store.failing = {f"Get{service.title()}Status": Unavailable("no route", "AWAY")}
        status = (await gateway.ask(STATUS))["status"]
        problem = {"problem": f"the state of {service}_svc is not known: no route"}
        assert status == well | {"idle": False, service: unknown | problem}
    gateway.store.failing = {}
    assert (await gateway.ask(STATUS))["status"] == well


async def test_services_that_hang_delay_the_status_together_and_not_each(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.replicas.SECONDS", 0.2)
    gateway.store.status.sequence = 7
    gateway.store.waiting = {method: asyncio.Event() for method in ("GetIngestStatus", "GetDetectStatus")}
    status = (await gateway.ask(STATUS))["status"]
    assert status["idle"] is False
    for service in ("ingest", "detect"):
        assert status[service]["problem"].startswith(f"the state of {service}_svc is not known: ")
    assert status["store"] == {"sequence": "7", "openEvents": 0, "problem": None}
    monkeypatch.setattr("gateway.replicas.SECONDS", 90)
    asking = asyncio.create_task(gateway.ask(STATUS))
    gateway.store.clear_calls()
    await until(lambda: {*FLOW} <= {*gateway.store.calls})
    for event in gateway.store.waiting.values():
        event.set()
    assert (await asking)["status"]["idle"] is True


async def test_kafka_that_is_away_hides_only_the_lags(gateway: Gateway) -> None:
    problem = "Kafka does not answer: no response in time"
    gateway.store.status.sequence = 7
    for message, part in ((gateway.store.status, "store"), (gateway.store.detect, "detect")):
        message.problem = problem
        status = (await gateway.ask(STATUS))["status"]
        assert (status["idle"], status[part]["problem"]) == (False, problem)
        assert status["store"]["sequence"] == "7"
        message.problem = ""
    assert (await gateway.ask(STATUS))["status"]["idle"] is True


async def test_bugs_are_errors_of_status(gateway: Gateway) -> None:
    for method in FLOW:
        gateway.store.failing = {method: Internal("a bug", "BUG")}
        assert (await gateway.error("{ status { idle } }"))["extensions"]["code"] == "INTERNAL"


@pytest.mark.parametrize("found_by", ["detect", "store"])
async def test_work_that_moves_on_while_services_are_asked_is_found(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    """A photo leaves ingest_svc just before that answers, and the others answered before it came to them."""
    record, asked = gateway.store.record, list[str]()
    gateway.store.waiting["GetIngestStatus"] = asyncio.Event()

    def move(method: str, request: Message) -> None:
        record(method, request)
        asked.append(method)
        if set(asked) >= {*FLOW}:
            gateway.store.waiting["GetIngestStatus"].set()
        if asked.count("GetDetectStatus") == 2 and found_by == "detect":
            gateway.store.detect.lag = 1
        elif asked.count("GetDetectStatus") == 2:
            gateway.store.status.open_events = 1

    monkeypatch.setattr(gateway.store, "record", move)
    status = (await gateway.ask(STATUS))["status"]
    assert status["idle"] is False
    assert (status["detect"]["lag"], status["store"]["openEvents"]) == (
        (1, 0) if found_by == "detect" else (0, 1)
    )


async def test_gpus_and_their_history(gateway: Gateway) -> None:
    gpu = gateway.store.gpus.gpus.add(index=0, uuid="GPU-1", name="H200", memory_total_bytes=150 * 10**9)
    values = {"utilization": 0.37, "memory_used_bytes": 149 * 10**9, "temperature_celsius": 61.5}
    sampled(gpu.now, 9, power_watts=212.345, **values)
    sampled(gpu.history.add(), 4, utilization=0.0)
    gateway.store.gpus.gpus.add(index=1).now.SetInParent()
    first, second = (await gateway.ask(GPUS, minutes=7))["status"]["gpus"]
    assert first == {
        "index": 0,
        "uuid": "GPU-1",
        "name": "H200",
        "memoryTotalBytes": 150e9,
        "now": {
            "at": "2023-11-14T22:13:29+00:00",
            "utilization": 0.37,
            "memoryUsedBytes": 149e9,
            "temperatureCelsius": 61.5,
            "powerWatts": 212.345,
        },
        "history": [{"at": "2023-11-14T22:13:24+00:00", "utilization": 0.0}],
    }
    assert second["memoryTotalBytes"] is None
    assert set(second["now"].values()) == {"1970-01-01T00:00:00+00:00", None}
    request: Any = gateway.store.requests[-1]
    assert request.minutes == 7


@pytest.mark.parametrize("variables", [{}, {"minutes": None}])
async def test_no_gpu_and_no_history_are_normal(gateway: Gateway, variables: dict[str, None]) -> None:
    assert await gateway.ask(GPUS, **variables) == {"status": {"gpus": []}}
    request: Any = gateway.store.requests[-1]
    assert request.minutes == 0


async def test_the_reason_why_there_is_no_gpu(gateway: Gateway) -> None:
    assert await gateway.ask("{ status { noGpu } }") == {"status": {"noGpu": None}}
    gateway.store.gpus.detail = "the driver hangs"
    assert await gateway.ask("{ status { noGpu } }") == {"status": {"noGpu": "the driver hangs"}}


async def test_gpus_that_cannot_be_read_are_null_with_an_error(gateway: Gateway) -> None:
    gateway.store.failing["ListGpus"] = Unavailable("too slow", "AWAY")
    response = await gateway.post("{ status { idle gpus { name } } }")
    assert response["data"] == {"status": {"idle": True, "gpus": None}}
    assert response["errors"][0]["path"] == ["status", "gpus"]
    del gateway.store.failing["ListGpus"]
    (error,) = (await gateway.post(GPUS, minutes=61))["errors"]
    assert error["extensions"]["reason"] == "BAD_REQUEST"


async def test_the_cost_of_a_gpu_history_is_that_of_its_longest(gateway: Gateway) -> None:
    sample = "fragment F on Gpu { history { at utilization memoryUsedBytes temperatureCelsius powerWatts } }"
    aliases = " ".join(f"a{index}: gpus(minutes: 60) {{ ...F }}" for index in range(80))
    error = await gateway.error(f"{{ status {{ {aliases} }} }} {sample}")
    assert error["extensions"]["reason"] == "TOO_COSTLY"
    assert not gateway.store.calls["ListGpus"]


async def test_the_detector_and_its_servers(gateway: Gateway) -> None:
    gateway.store.detect.detector, gateway.store.detect.detail = "rtdetrv2-r18@abc", "no server answers"
    gateway.store.detect.servers.add(address="gpu-1:8001", in_flight=8, answered=2**33, failed=3)
    query = """{ status { detect { detector ready detail servers {
      address available inFlight answered failed } } } }"""
    assert (await gateway.ask(query))["status"]["detect"] == {
        "detector": "rtdetrv2-r18@abc",
        "ready": False,
        "detail": "no server answers",
        "servers": [
            {"address": "gpu-1:8001", "available": False, "inFlight": 8, "answered": 2**33, "failed": 3}
        ],
    }


async def test_the_rate_and_the_estimate(gateway: Gateway) -> None:
    query = "{ status { store { recentlyAssessed etaSeconds } } }"
    gateway.store.status.ClearField("eta")
    assert (await gateway.ask(query))["status"]["store"] == {"recentlyAssessed": 0, "etaSeconds": None}
    gateway.store.status.recently_assessed = 12
    gateway.store.status.eta.FromMilliseconds(90_500)
    assert (await gateway.ask(query))["status"]["store"] == {"recentlyAssessed": 12, "etaSeconds": 90.5}
    gateway.store.status.eta.FromMilliseconds(0)
    assert (await gateway.ask(query))["status"]["store"]["etaSeconds"] == 0.0


def test_the_states_are_those_of_the_contract() -> None:
    named = {state.name: state.value for state in ReasonerState}
    assert named == {
        name.removeprefix("REASONER_STATE_") if number else "UNKNOWN": number
        for name, number in reason_service_pb2.ReasonerState.items()
    }


async def test_watched_labels_that_the_detector_does_not_know(gateway: Gateway) -> None:
    query = "{ status { watchProblem } }"
    assert (await gateway.ask(query))["status"] == {"watchProblem": None}
    gateway.store.watch_policy.problem = "LARES_WATCH_CLASSES: tiny@1 cannot find burglar"
    assert (await gateway.ask(query))["status"] == {
        "watchProblem": "LARES_WATCH_CLASSES: tiny@1 cannot find burglar"
    }
