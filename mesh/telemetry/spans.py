"""Spans of the stages that a photo or a request goes through.

They are made only if the process exports them (`mesh.telemetry.export`) and the trace is sampled. Otherwise
every function here returns at once, and nothing but OpenTelemetry's API is imported. Attributes are ids,
names and counts, never keys, messages or the values of a query; a Problem's text is redacted as in logs.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from mesh.delivery import Delivery
from mesh.problems import Problem
from mesh.telemetry.redaction import redacted
from mesh.telemetry.trace_context import TRACEPARENT, enter_request, unsampled_span
from mesh.topics import M

SCOPE = "lares"
CLIENT, CONSUMER, INTERNAL = SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.INTERNAL
PRODUCER, SERVER = SpanKind.PRODUCER, SpanKind.SERVER

# Codes of errors that the server caused. Others are the caller's, and the server's span does not fail.
_SERVER_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}

Attributes = Mapping[str, AttributeValue]


def is_tracing() -> bool:
    """Whether this process exports spans."""
    # Private in OpenTelemetry 1.x: without a provider, its function reads the environment in every call.
    return trace._TRACER_PROVIDER is not None


def is_recording() -> bool:
    """Whether the current span is recorded, and its children would be."""
    return trace.get_current_span().is_recording()


def span(
    name: str, attributes: Attributes | None = None, kind: SpanKind = INTERNAL
) -> AbstractContextManager[Span]:
    """Makes a child of the current span, which is current until the block ends. Does nothing if the current
    span is not recorded."""
    if not is_recording():
        return nullcontext(INVALID_SPAN)
    return _current(_start(name, kind, attributes), kind)


def request_span(
    headers: Mapping[str, str], name: str, attributes: Attributes | None = None, kind: SpanKind = SERVER
) -> AbstractContextManager[Span]:
    """Makes the task part of the request that `headers` name, as `enter_request` does, with a span for the
    block: a child of the span that `headers` name, or the first of a trace.

    The span stays the task's current one after the block has ended it, so that log lines keep its trace id.
    """
    enter_request(headers)
    if not is_tracing():
        return nullcontext(INVALID_SPAN)
    started = _start(name, kind, attributes, _remote(headers))
    context.attach(trace.set_span_in_context(started))
    return _ending(started, kind)


@contextmanager
def call_span(request: object) -> Iterator[Span]:
    """The client's span of a call.

    A call that does not belong to a photo or a request, such as a poll, is sent with a trace that is not
    sampled, so that the server does not begin a trace for it.
    """
    current = trace.get_current_span()
    if current.is_recording():
        kind = type(request).DESCRIPTOR.full_name if isinstance(request, Message) else type(request).__name__
        started = _start(kind.removesuffix("Request"), CLIENT, {"rpc.system": "grpc"})
        with _current(started, CLIENT):
            yield started
    elif current.get_span_context().is_valid or not is_tracing():
        yield INVALID_SPAN
    else:
        with use_span(unsampled_span()):
            yield INVALID_SPAN


@contextmanager
def batch_spans(batch: Sequence[Delivery[M]], name: str) -> Iterator[Sequence[Delivery[M]]]:
    """Makes spans for records that are processed together: one for each record, in the record's own trace,
    and for several records a span `name`, which begins a trace of its own and is linked with all of them.

    Yields the records with headers that name these spans. Spans of the block are children of the single
    record's span, or of the batch's. Does nothing for records of traces that are not sampled.
    """
    sampled = (
        [delivery for delivery in batch if sampled_traceparent(delivery.headers)] if is_tracing() else []
    )
    if not sampled:
        yield batch
        return
    began = time.time_ns()
    spans: list[Span] = []
    if len(batch) > 1:
        links = [Link(_remote_context(delivery.headers)) for delivery in sampled]
        count = {"messaging.batch.message_count": len(batch)}
        spans = [_start(name, CONSUMER, count, context.Context(), links=links, start_time=began)]
    to_batch = [Link(started.get_span_context()) for started in spans]
    followed: dict[tuple[int, int], str] = {}
    for delivery in sampled:
        parent, about = _remote(delivery.headers), _about_record(delivery)
        started = _start(
            f"process {delivery.topic}", CONSUMER, about, parent, links=to_batch, start_time=began
        )
        followed[delivery.partition, delivery.offset] = traceparent_of(started)
        spans.append(started)
    try:
        with use_span(spans[0]):
            yield [_following(delivery, followed) for delivery in batch]
    except Exception as error:
        end_spans(spans, error)
        raise
    finally:
        end_spans(spans)


def record_span(delivery: Delivery[Any]) -> AbstractContextManager[Span]:
    """`request_span` for one record of a topic."""
    about = _about_record(delivery) if is_tracing() else None
    return request_span(delivery.headers, f"process {delivery.topic}", about, CONSUMER)


def publish_span(topic: str, parent: Span | None = None) -> Span | None:
    """Begins the span of a record that is being published. The caller ends it when the record is durable.

    Its parent is the current span if none is given. Returns None if the parent is not recorded.
    """
    parent = trace.get_current_span() if parent is None else parent
    if not parent.is_recording():
        return None
    about = {"messaging.system": "kafka", "messaging.destination.name": topic}
    return _start(f"publish {topic}", PRODUCER, about, trace.set_span_in_context(parent))


def begin_span(
    name: str, attributes: Attributes | None = None, begun: float | None = None, kind: SpanKind = INTERNAL
) -> Span:
    """Begins a span that the caller ends: a child of the current one, or the first of a trace. `begun` is its
    beginning in monotonic seconds; None means now."""
    if not is_tracing():
        return INVALID_SPAN
    at = None if begun is None else time.time_ns() - round((time.monotonic() - begun) * 1e9)
    return _start(name, kind, attributes, start_time=at)


@contextmanager
def use_span(parent: Span) -> Iterator[None]:
    """Makes `parent` the current span of the block and of the tasks that it starts."""
    if not parent.get_span_context().is_valid:
        yield
        return
    token = context.attach(trace.set_span_in_context(parent))
    try:
        yield
    finally:
        context.detach(token)


def traceparent_of(parent: Span | None = None) -> str:
    """The header that makes other spans children of `parent`, or of the current span. Empty if that is not
    recorded."""
    parent = trace.get_current_span() if parent is None else parent
    if not parent.is_recording():
        return ""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(parent))
    return carrier[TRACEPARENT]


def sampled_traceparent(headers: Mapping[str, str]) -> str | None:
    """The header `traceparent`, if it names a trace that is sampled."""
    header = headers.get(TRACEPARENT, "")
    if not header or header.endswith("-00"):
        return None
    return header if _remote_context(headers).trace_flags.sampled else None


def past_span(traceparent: str, name: str, attributes: Attributes, since: datetime) -> str:
    """Makes a span that began at `since` and ends now, a child of the one that `traceparent` names. Returns
    its traceparent, or the given one if it is not recorded."""
    if not is_tracing() or not traceparent:
        return traceparent
    begun = min(round(since.timestamp() * 1e9), time.time_ns())
    started = _start(name, INTERNAL, attributes, _remote({TRACEPARENT: traceparent}), start_time=begun)
    own = traceparent_of(started)
    started.end()
    return own or traceparent


def end_spans(spans: Iterable[Span | None], error: Exception | None = None) -> None:
    """Ends the spans that are still open. With an `error` they end as failed."""
    for started in spans:
        if started is not None and started.is_recording():
            if error is not None:
                record_failure(started, error)
            started.end()


def record_failure(failed: Span, error: Exception, kind: SpanKind = INTERNAL) -> None:
    """Records the error of a span. The text is recorded only for a Problem, because that of other errors may
    contain secrets. A server's span fails only if the server caused the error."""
    problem = error if isinstance(error, Problem) else None
    failed.set_attribute("error.type", problem.reason if problem else type(error).__name__)
    if kind is not SERVER or problem is None or problem.code in _SERVER_FAULTS:
        failed.set_status(StatusCode.ERROR, redacted(problem.message) if problem else None)


@contextmanager
def _current(started: Span, kind: SpanKind) -> Iterator[Span]:
    with use_span(started), _ending(started, kind):
        yield started


@contextmanager
def _ending(started: Span, kind: SpanKind) -> Iterator[Span]:
    try:
        yield started
    except Exception as error:
        record_failure(started, error, kind)
        raise
    finally:
        started.end()


def _start(
    name: str,
    kind: SpanKind,
    attributes: Attributes | None,
    parent: context.Context | None = None,
    *,
    links: Sequence[Link] = (),
    start_time: int | None = None,
) -> Span:
    tracer = trace.get_tracer_provider().get_tracer(SCOPE)
    return tracer.start_span(name, parent, kind, attributes, links, start_time)


def _remote(headers: Mapping[str, str]) -> context.Context:
    """A context that contains only the span that the headers name."""
    return TraceContextTextMapPropagator().extract(dict(headers), context=context.Context())


def _remote_context(headers: Mapping[str, str]) -> SpanContext:
    return trace.get_current_span(_remote(headers)).get_span_context()


def _following(delivery: Delivery[M], followed: Mapping[tuple[int, int], str]) -> Delivery[M]:
    traceparent = followed.get((delivery.partition, delivery.offset))
    if not traceparent:
        return delivery
    return replace(delivery, headers=delivery.headers | {TRACEPARENT: traceparent})


def _about_record(delivery: Delivery[Any]) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": delivery.topic,
        "messaging.destination.partition.id": str(delivery.partition),
        "messaging.kafka.offset": delivery.offset,
    }
