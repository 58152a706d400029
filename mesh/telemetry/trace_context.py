"""Request ids and trace context, which tie the work on one photo or request together across services."""

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar

import structlog
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID = "x-request-id"
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
# Read and written here, because every call within Lares does, and the propagator takes ten times as long. It
# reads all other forms.
_TRACEPARENT_FORM = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

# Bound for log lines, too.
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def outgoing_headers() -> dict[str, str]:
    """The request id and the trace context of the current task, as headers for the next service."""
    headers: dict[str, str] = {}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        headers[TRACEPARENT] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        if span.trace_state:
            headers[TRACESTATE] = span.trace_state.to_header()
    if request_id := _request_id.get():
        headers[REQUEST_ID] = request_id
    return headers


def enter_request(headers: Mapping[str, str]) -> None:
    """Makes the current task part of the request that `headers` name, or of a new one that is not sampled."""
    request_id = headers.get(REQUEST_ID, "")[:64] or secrets.token_hex(8)
    _request_id.set(request_id)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    entered = _named_by(headers)
    if not trace.get_current_span(entered).get_span_context().is_valid:
        entered = trace.set_span_in_context(unsampled_span(), entered)
    context.attach(entered)


def _named_by(headers: Mapping[str, str]) -> context.Context:
    traceparent = headers.get(TRACEPARENT)
    if traceparent is None:
        return context.Context()
    form = _TRACEPARENT_FORM.fullmatch(traceparent)
    if form is None or TRACESTATE in headers:
        return TraceContextTextMapPropagator().extract(dict(headers), context=context.Context())
    trace_id, span_id, flags = (int(number, 16) for number in form.groups())
    ids = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    return trace.set_span_in_context(trace.NonRecordingSpan(ids), context.Context())


def unsampled_span() -> trace.Span:
    """A span with the ids of a new trace that is not recorded."""
    ids = trace.SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)
    return trace.NonRecordingSpan(ids)
