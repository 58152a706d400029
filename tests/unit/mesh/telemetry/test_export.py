"""Whether and where spans are exported; what becomes of them, and of Lares, when the collector is away."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from mesh.problems import Invalid
from mesh.telemetry.export import CLOSE_SECONDS, DEFAULT_ENDPOINT, endpoint, open_tracing
from mesh.telemetry.spans import is_tracing, request_span, span
from tests.support.collector import running_collector
from tests.support.lares import ROOT, free_ports
from tests.support.waiting import until, until_async

HERE = "http://collector:4317"
ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"OTEL_SERVICE_NAME": "home"}, ""),
        (ON, HERE),
        (ON | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:4317"}, "http://traces:4317"),
        (ON | {"OTEL_TRACES_EXPORTER": "otlp"}, HERE),
        (ON | {"OTEL_TRACES_EXPORTER": "none"}, ""),
        (ON | {"OTEL_SDK_DISABLED": "true"}, ""),
        (ON | {"OTEL_SDK_DISABLED": "false"}, HERE),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, DEFAULT_ENDPOINT),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ""),
        (ON | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, HERE),
    ],
)
def test_where_spans_go(environment: Mapping[str, str], expected: str) -> None:
    assert endpoint(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [ON | {"OTEL_TRACES_EXPORTER": "zipkin"}, ON | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}],
)
def test_what_cannot_be_done_is_said_at_the_start(environment: Mapping[str, str]) -> None:
    with pytest.raises(Invalid) as raised:
        endpoint(environment)
    assert raised.value.reason == "BAD_SETTING"


LOADED = """
import asyncio, json, os, sys
from deploy.targets import TARGETS
from mesh.telemetry.spans import is_tracing, request_span, span
from mesh.telemetry.export import open_tracing
async def trace():
    async with open_tracing("lares"):
        with request_span({}, "request"), span("stage"):
            pass
        return is_tracing(), [name for name in sys.modules if name.startswith("opentelemetry.")]
for target in TARGETS.values():
    target.load()
off = asyncio.run(trace())
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
print(json.dumps([off, asyncio.run(trace())]))
"""


def test_without_an_endpoint_nothing_of_the_sdk_is_imported() -> None:
    """In a new process that has imported all services."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, env=plain, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    (off, names), (on, names_then) = json.loads(done.stdout.splitlines()[-1])
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "opentelemetry.semconv")
    assert (off, on) == (False, True)
    assert [name for name in names if name.startswith(heavy)] == []
    expected = {"opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"}
    assert expected <= set(names_then)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, no_provider: None) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    return monkeypatch


Lines = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged so far: level and event."""
    with structlog.testing.capture_logs() as captured:
        yield lambda: [(line["log_level"], line["event"]) for line in captured]


async def one_request(name: str = "request") -> None:
    async def work() -> None:
        with request_span({}, name), span("stage"):
            await asyncio.sleep(0)

    await asyncio.create_task(work())


async def test_spans_arrive_with_resource_and_headers_even_the_last(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=opensesame")
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with running_collector() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        async with open_tracing("lares-detect"):
            assert is_tracing()
            await one_request()
        assert {received.name for received in collector.spans} == {"request", "stage"}
        assert collector.metadata["x-collector-key"] == "opensesame"
    resource = collector.spans[0].resource
    assert (resource["service.name"], resource["deployment.environment"]) == ("lares-detect", "test")
    assert resource["service.version"]
    assert b"opensesame" not in b"".join(collector.raw)


async def test_a_header_that_is_not_understood_is_not_shown(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Bearer opensesame, authorization=Basic öpensesame")
    async with open_tracing("lares"):
        pass
    assert caplog.text.count("Header format invalid!") == 2
    assert "pensesame" not in caplog.text


async def test_the_service_s_name_is_the_environment_s(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_SERVICE_NAME", "cabin")
    environment.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
    with running_collector() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.endpoint)
        async with open_tracing("lares"):
            await one_request()
        assert {received.resource["service.name"] for received in collector.spans} == {"cabin"}


async def test_the_sampler_is_the_environment_s(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with running_collector() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        async with open_tracing("lares"):
            await one_request()
        assert collector.spans == []


async def test_a_dead_collector_costs_spans_and_one_line_and_is_noticed_when_it_is_back(
    environment: pytest.MonkeyPatch, lines: Lines
) -> None:
    exports: list[object] = []

    def recorded_export(exporter: OTLPSpanExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = export(exporter, spans)
        exports.append(result)
        return result

    export = OTLPSpanExporter.export
    environment.setattr(OTLPSpanExporter, "export", recorded_export)
    (port,) = free_ports(1)
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    dropped, taken = ("warning", "spans dropped"), ("info", "spans exported again")
    async with open_tracing("lares"):
        began = time.monotonic()
        for _ in range(100):  # far more than the queue holds
            await one_request()
        assert time.monotonic() - began < 1
        await until(lambda: dropped in lines())
        for _ in range(3):
            before = len(exports)
            await one_request()
            await until(lambda: len(exports) > before)  # noqa: B023
        with running_collector(port) as collector:

            async def arrived() -> bool:
                await one_request("later")
                return any(received.name == "later" for received in collector.spans)

            await until_async(arrived)
            await until(lambda: taken in lines())
            assert lines().count(dropped) == lines().count(taken) == 1


async def test_a_queue_that_overflows_is_said_once(environment: pytest.MonkeyPatch, lines: Lines) -> None:
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    dropped = ("warning", "spans dropped")
    with running_collector() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        async with open_tracing("lares"):
            for _ in range(2):
                for _ in range(200):
                    with request_span({}, "request"):
                        pass
                await until(lambda: dropped in lines())
    assert lines().count(dropped) == 1


async def test_a_dead_collector_is_not_waited_for_at_the_end(
    environment: pytest.MonkeyPatch, lines: Lines
) -> None:
    (port,) = free_ports(1)
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "4")
    async with open_tracing("lares"):
        await one_request()
        await until(lambda: ("warning", "spans dropped") in lines())
        await one_request()
        began = time.monotonic()
    assert time.monotonic() - began < 0.5


async def test_a_collector_that_never_answers_is_waited_for_within_bounds(
    environment: pytest.MonkeyPatch,
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with open_tracing("lares"):
            for _ in range(1000):
                await one_request()
            began = time.monotonic()
        assert time.monotonic() - began < CLOSE_SECONDS + 1


async def test_what_cannot_be_opened_is_a_wrong_setting(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with pytest.raises(Invalid) as raised:
        async with open_tracing("lares"):
            raise AssertionError("it opened")
    assert raised.value.reason == "BAD_SETTING"
    assert not is_tracing()
    assert not trace.get_current_span().is_recording()
