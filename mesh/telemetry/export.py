"""Exports spans to an OpenTelemetry collector, as configured by the standard `OTEL_*` variables.

This is the only module that imports OpenTelemetry's SDK, and it does so only if an endpoint is set, so that a
process without one does not load it. See docs/tracing.md.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from mesh.problems import Invalid
from mesh.telemetry.redaction import redacted_url

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
DEFAULT_ENDPOINT = "http://localhost:4317"
# The time for sending the remaining spans when the process stops.
CLOSE_SECONDS = 2.0
# Loggers of the SDK for failed exports and for a full queue, which `_LoggedExporter` logs once.
EXPORTS, QUEUE = "opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal"
# The SDK's logger for values of OTEL_EXPORTER_OTLP_HEADERS that it cannot parse.
HEADERS = "opentelemetry.util.re"


def endpoint(environment: Mapping[str, str]) -> str:
    """The collector's endpoint, or an empty string if spans are not exported. Raises Invalid BAD_SETTING for
    settings that Lares does not support."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    given = next((value for name in ENDPOINTS if (value := environment.get(name, "").strip())), "")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none" or not (given or exporter):
        return ""
    if exporter not in ("", "otlp"):
        raise Invalid(f"OTEL_TRACES_EXPORTER: must be otlp or none, not {exporter}", "BAD_SETTING")
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name, "").strip())), "grpc")
    if protocol != "grpc":
        raise Invalid(f"{PROTOCOLS[1]}: must be grpc, not {protocol}", "BAD_SETTING")
    return given or DEFAULT_ENDPOINT


@asynccontextmanager
async def open_tracing(service_name: str) -> AsyncIterator[None]:
    """Exports the spans of this process until the block ends. Does nothing if no endpoint is set.

    `service_name` is the default for OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. When the block ends, the
    remaining spans have 2 s to be sent. Raises Invalid BAD_SETTING.
    """
    target = endpoint(os.environ)
    if not target:
        yield
        return
    try:
        provider, exporter = _started(service_name, target)
    except (ValueError, RuntimeError, OSError) as error:
        raise Invalid(f"OTEL_*: {error}", "BAD_SETTING") from None
    log.info("exporting traces", endpoint=redacted_url(target))
    try:
        yield
    finally:
        await _close(provider, exporter)


def _started(service_name: str, target: str) -> "tuple[TracerProvider, _LoggedExporter]":
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger(HEADERS).addFilter(_without_values)
    given = OTELResourceDetector().detect()
    defaults = Resource.create({"service.name": service_name, "service.version": version("lares")})
    provider = TracerProvider(resource=defaults.merge(given), shutdown_on_exit=False)
    exporter = _LoggedExporter(OTLPSpanExporter(endpoint=target), target)
    for name in (EXPORTS, QUEUE):
        # Before the SDK's own filter, which drops repetitions.
        logging.getLogger(name).filters.insert(0, exporter.note)
    provider.add_span_processor(BatchSpanProcessor(exporter))  # type: ignore[arg-type]  # a SpanExporter by form
    trace.set_tracer_provider(provider)
    return provider, exporter


def _without_values(record: logging.LogRecord) -> bool:
    """A filter of the SDK's log that hides the values of headers, which may be keys."""
    record.args = ("***",) * len(record.args or ())
    return True


class _LoggedExporter:
    """A SpanExporter that logs once when the collector stops accepting spans, and once when it accepts them
    again."""

    def __init__(self, exporter: "SpanExporter", target: str) -> None:
        self._exporter, self._target = exporter, target
        self._closed = self._overflown = self._slow = False
        self._cause = ""
        self.failing = False

    def export(self, spans: Any) -> Any:
        result = self._exporter.export(spans)
        failed = result.name != "SUCCESS"
        if failed:
            if not self.failing and not self._closed:
                why = self._cause or "no response"
                log.warning("spans dropped", endpoint=redacted_url(self._target), error=why)
        elif self.failing:
            log.info("spans exported again", endpoint=redacted_url(self._target))
        elif self._overflown and not self._slow:
            self._slow = True
            log.warning("spans dropped", endpoint=redacted_url(self._target), error="too many for the queue")
        self.failing, self._overflown = failed, False
        return result

    def shutdown(self) -> None:
        """Ends a running export, without waiting."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def note(self, record: logging.LogRecord) -> bool:
        """A filter of the SDK's log that only passes unexpected errors. The status of a failed export and the
        full queue are kept, and logged by `export`."""
        codes = [part for part in record.args or () if isinstance(part, grpc.StatusCode)]
        if codes:
            self._cause = codes[0].name
        elif record.name == QUEUE and record.levelno == logging.WARNING:
            self._overflown = True
        return not codes and record.levelno >= logging.ERROR


async def _close(provider: "TracerProvider", exporter: _LoggedExporter) -> None:
    if exporter.failing:
        exporter.shutdown()
    ending = asyncio.create_task(asyncio.to_thread(provider.shutdown))
    await asyncio.wait([ending], timeout=CLOSE_SECONDS)
    exporter.shutdown()
    await ending
    for name in (EXPORTS, QUEUE):
        logging.getLogger(name).removeFilter(exporter.note)
