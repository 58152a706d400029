"""Exports spans to an OpenTelemetry collector, as the standard `OTEL_*` variables say.

The only module that imports OpenTelemetry's SDK, and it does so only where an endpoint is set: a process that
exports nothing pays nothing. docs/tracing.md
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
# What is left of the spans when the process stops; a collector that is away is not waited for.
CLOSE_SECONDS = 2.0
# Loggers of the SDK that repeat what `_Delivery` says once: of failed exports, and of a full queue.
EXPORTS, QUEUE = "opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal"
# Says which header of OTEL_EXPORTER_OTLP_HEADERS has no value that it can read.
HEADERS = "opentelemetry.util.re"


def endpoint(environment: Mapping[str, str]) -> str:
    """Where spans go; empty where none are exported. Raises Invalid BAD_SETTING for what Lares cannot do."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    told = next((value for name in ENDPOINTS if (value := environment.get(name, "").strip())), "")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none" or not (told or exporter):
        return ""
    if exporter not in ("", "otlp"):
        raise Invalid(f"OTEL_TRACES_EXPORTER: otlp or none, not {exporter}", "BAD_SETTING")
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name, "").strip())), "grpc")
    if protocol != "grpc":
        raise Invalid(f"{PROTOCOLS[1]}: Lares exports by grpc, not by {protocol}", "BAD_SETTING")
    return told or DEFAULT_ENDPOINT


@asynccontextmanager
async def open_tracing(service_name: str) -> AsyncIterator[None]:
    """Exports the spans of this process until the block ends; does nothing where no endpoint is set.

    `service_name` is used where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES name none. Raises Invalid
    BAD_SETTING. The last spans have 2 s to leave."""
    target = endpoint(os.environ)
    if not target:
        yield
        return
    try:
        provider, delivery = _started(service_name, target)
    except (ValueError, RuntimeError, OSError) as error:
        raise Invalid(f"OTEL_*: {error}", "BAD_SETTING") from None
    log.info("traces are exported", endpoint=redacted_url(target))
    try:
        yield
    finally:
        await _close(provider, delivery)


def _started(service_name: str, target: str) -> "tuple[TracerProvider, _Delivery]":
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger(HEADERS).addFilter(_without_values)
    told = OTELResourceDetector().detect()
    ours = Resource.create({"service.name": service_name, "service.version": version("lares")})
    provider = TracerProvider(resource=ours.merge(told), shutdown_on_exit=False)
    delivery = _Delivery(OTLPSpanExporter(endpoint=target), target)
    for name in (EXPORTS, QUEUE):
        logging.getLogger(name).filters.insert(0, delivery.note)  # before the SDK's, which drops repetitions
    provider.add_span_processor(BatchSpanProcessor(delivery))  # type: ignore[arg-type]  # a SpanExporter by form
    trace.set_tracer_provider(provider)
    return provider, delivery


def _without_values(record: logging.LogRecord) -> bool:
    """A filter of the SDK's log: a header that is not understood may be a key all the same."""
    record.args = ("***",) * len(record.args or ())
    return True


class _Delivery:
    """A SpanExporter. Says once that the collector takes no spans, and once that it takes them again."""

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
                why = self._cause or "no answer"
                log.warning("spans are dropped", endpoint=redacted_url(self._target), error=why)
        elif self.failing:
            log.info("spans are taken again", endpoint=redacted_url(self._target))
        elif self._overflown and not self._slow:
            self._slow = True
            log.warning(
                "spans are dropped", endpoint=redacted_url(self._target), error="too many for the queue"
            )
        self.failing, self._overflown = failed, False
        return result

    def shutdown(self) -> None:
        """Ends an export that is under way, and waits for nothing."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def note(self, record: logging.LogRecord) -> bool:
        """A filter of the SDK's log: only what nobody foresaw passes. The status of a failed export, and that
        the queue was full, are kept for our own lines."""
        codes = [part for part in record.args or () if isinstance(part, grpc.StatusCode)]
        if codes:
            self._cause = codes[0].name
        elif record.name == QUEUE and record.levelno == logging.WARNING:
            self._overflown = True
        return not codes and record.levelno >= logging.ERROR


async def _close(provider: "TracerProvider", delivery: _Delivery) -> None:
    if delivery.failing:
        delivery.shutdown()
    ending = asyncio.create_task(asyncio.to_thread(provider.shutdown))
    await asyncio.wait([ending], timeout=CLOSE_SECONDS)
    delivery.shutdown()
    await ending
    for name in (EXPORTS, QUEUE):
        logging.getLogger(name).removeFilter(delivery.note)
