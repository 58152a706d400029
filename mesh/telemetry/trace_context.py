"""Request ids and trace context, which tie the work on one photo or request together across services."""

import secrets
from collections.abc import Mapping

import structlog
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"


def outgoing_headers() -> dict[str, str]:
    """The request id and the trace context of the current task, as headers for the next service."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id:
        headers[REQUEST_ID] = str(request_id)
    return headers


def enter_request(headers: Mapping[str, str]) -> None:
    """Makes the current task part of the request that `headers` name, or of a new one that is not sampled."""
    request_id = headers.get(REQUEST_ID, "")[:64] or secrets.token_hex(8)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    entered = TraceContextTextMapPropagator().extract(dict(headers), context=context.Context())
    if not trace.get_current_span(entered).get_span_context().is_valid:
        entered = trace.set_span_in_context(unsampled_span(), entered)
    context.attach(entered)


def unsampled_span() -> trace.Span:
    """A span with the ids of a new trace that is not recorded."""
    ids = trace.SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)
    return trace.NonRecordingSpan(ids)
