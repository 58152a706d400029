"""Logs, trace context, request ids: what ties one photo's way through the services together."""

import logging
import re
import secrets
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"

_SECRET_NAMES = re.compile(r"secret|password|token|authorization|api.?key", re.IGNORECASE)
_KEYS = re.compile(r"lares_[A-Za-z0-9_-]{20,}")
_URLS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# Up to the last @, for a password may hold any character; a user is plain up to the first colon.
_CREDENTIALS = re.compile(r"(?<=://)([^:/?#@]*:)?.*(?=@)", re.DOTALL)
_PARAMETERS = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth|credential)[^=&]*=)([^&]*)", re.IGNORECASE
)


def hidden(url: str) -> str:
    """A URL without its password, and without the values of parameters that are named like secrets. Where it
    is not clear what a part of it is, that part is hidden too."""

    def parameter(found: re.Match[str]) -> str:
        # The @ stays: it may be the one after a password that looks like a parameter.
        return found[1] + ("***@***" if "@" in found[2] else "***")

    return _CREDENTIALS.sub(r"\1***", _PARAMETERS.sub(parameter, url))


def redacted(text: str) -> str:
    """Without API keys, and with the URLs in it as `hidden` shows them."""
    return _URLS.sub(lambda url: hidden(url[0]), _KEYS.sub("***", text))


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no API key, password or credential in a URL reaches a log."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = redacted(value)
    return event


def _add_trace(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
    return event


def configure_logging(form: str, level: str) -> None:
    """`form` is auto, console or json; everything goes to standard error, other libraries' logs too."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiokafka", "kafka", "alembic", "asyncio", "uvicorn", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def outgoing() -> dict[str, str]:
    """Request id and trace context of the work in hand, as headers."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id:
        headers[REQUEST_ID] = str(request_id)
    return headers


def enter(headers: Mapping[str, str]) -> None:
    """Makes the current task part of the request that `headers` name, or of a new one."""
    request_id = headers.get(REQUEST_ID, "")[:64] or secrets.token_hex(8)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    entered = TraceContextTextMapPropagator().extract(dict(headers), context=context.Context())
    if not trace.get_current_span(entered).get_span_context().is_valid:
        entered = trace.set_span_in_context(unsampled(), entered)
    context.attach(entered)


def unsampled() -> trace.Span:
    """The ids of a new trace that nobody records."""
    ids = trace.SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)
    return trace.NonRecordingSpan(ids)
