"""A collector of OpenTelemetry spans: a gRPC server that keeps what it receives."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class ReceivedSpan:
    """Ids are hexadecimal. `parent` is empty for the root of a trace; `links` are span ids."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector(rpc.TraceServiceServicer):
    """`endpoint` is the value for OTEL_EXPORTER_OTLP_ENDPOINT; `metadata` that of the last export; `raw` all
    requests, serialised."""

    endpoint: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    _spans: list[ReceivedSpan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:
        with self._lock:
            self.metadata = dict(context.invocation_metadata())
            self.raw.append(request.SerializeToString())
            for group in request.resource_spans:
                resource = _plain(group.resource.attributes)
                for scope in group.scope_spans:
                    self._spans += [_received(span, resource) for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._lock:
            return list(self._spans)

    def traces(self) -> dict[str, list[ReceivedSpan]]:
        """The spans by trace id."""
        traces: dict[str, list[ReceivedSpan]] = {}
        for span in self.spans:
            traces.setdefault(span.trace, []).append(span)
        return traces


@contextmanager
def running_collector(port: int = 0) -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    rpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=span.kind,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        failed=span.status.code == 2,
        attributes=_plain(span.attributes),
        resource=resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
