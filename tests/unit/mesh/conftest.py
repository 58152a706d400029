import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from tests.support.recorded_spans import RecordedSpans


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test may set OpenTelemetry's provider, which a process otherwise does once; then there is none."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def recorded(no_provider: None) -> RecordedSpans:
    """Tracing is on, and every trace sampled."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return RecordedSpans(exporter)
