"""The log of a process."""

import json
import logging
import sys
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry import trace

from mesh.telemetry.redaction import redact
from mesh.visible_text import visible

JSON = json.JSONEncoder(default=repr)
MANY_LINES = ("exception", "stack")  # fields whose text has several lines


def _add_origin(logger: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the logger's name, the level, the time and the trace. One processor, because several would cost
    twice as much."""
    record = event.get("_record")  # of a library that uses logging
    event["logger"] = logger.name if record is None else record.name
    event["level"] = level
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
    return event


def _make_visible(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names of files and texts of other programs may hold what a terminal obeys. JSON escapes that itself."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value, keep_lines=name in MANY_LINES)
    return event


class _EntryWriter:
    """What structlog logs to: renders an entry and writes it to the stream of `handler`, where the entries of
    libraries go, too. Going through logging itself would cost several times as much.

    Like a handler, it prints a failure, such as a full disk, and otherwise ignores it.
    """

    def __init__(self, name: str, handler: "logging.StreamHandler[Any]", rendering: Sequence[Any]) -> None:
        self.name = name
        self._handler, self._rendering = handler, rendering

    def write(self, event: Any) -> None:
        handler = self._handler
        try:
            for render in self._rendering:
                event = render(self, "", event)
            handler.acquire()
            try:
                handler.stream.write(event + handler.terminator)
                handler.flush()
            finally:
                handler.release()
        except Exception:
            handler.handleError(logging.makeLogRecord({"name": self.name, "msg": event}))

    debug = info = warning = error = critical = write


def configure_logging(form: str, level: str) -> None:
    """Sends everything that this process and its libraries log to standard error.

    `form` is auto, console or json; auto is console on a terminal.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_origin,
        structlog.processors.format_exc_info,
        redact,
    ]
    rendering: list[Any] = (
        [_make_visible, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [lambda _, __, event: JSON.encode(event)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=shared,
        )
    )
    structlog.configure(
        processors=[*shared, lambda _, __, event: ((event,), {})],
        logger_factory=lambda name: _EntryWriter(name, handler, rendering),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiokafka", "kafka", "alembic", "asyncio", "uvicorn", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
