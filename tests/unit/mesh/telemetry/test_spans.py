"""Which spans are made, whose children they are, and what they hold."""

import asyncio
import contextvars
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from lares.ingest.v1 import ingest_service_pb2 as pb
from lares.ingest.v1 import ingest_service_pb2_grpc as rpc
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus.record import encode
from mesh.delivery import Delivery
from mesh.problems import Internal, NotFound, Problem, Unavailable
from mesh.rpc import Channels, GrpcServer, call, metadata
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself, new_secret
from mesh.telemetry.spans import (
    batch_spans,
    begin_span,
    call_span,
    end_spans,
    is_tracing,
    request_span,
    span,
    traceparent_of,
    use_span,
)
from mesh.telemetry.trace_context import TRACEPARENT, enter_request, outgoing_headers
from mesh.topics import INGESTED
from tests.support.recorded_spans import RecordedSpans, id_of, parent_of, trace_of

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"


def delivery(offset: int, traceparent: str) -> Delivery[MediaIngested]:
    headers = {TRACEPARENT: traceparent} if traceparent else {}
    return Delivery(MediaIngested(), "door", INGESTED.name, 3, offset, datetime.now(UTC), headers)


def alone(work: Callable[[], None]) -> None:
    """Runs it where no span is current, whatever ran before."""
    contextvars.copy_context().run(work)


def test_without_a_provider_nothing_is_made() -> None:
    def work() -> None:
        with request_span({TRACEPARENT: SAMPLED}, "request") as request, span("stage") as stage:
            assert not request.is_recording()
            assert not stage.is_recording()
            assert traceparent_of() == ""
            assert outgoing_headers()[TRACEPARENT] == SAMPLED  # as it came
            record = encode(INGESTED, MediaIngested(), outgoing_headers())
            assert record.span is None
            assert dict(record.headers)[TRACEPARENT] == SAMPLED.encode()
        batch = [delivery(1, SAMPLED)]
        with batch_spans(batch, "batch") as followed:
            assert followed is batch
        assert begin_span("photo") is trace.INVALID_SPAN

    assert not is_tracing()
    alone(work)


def test_a_stage_is_a_child_and_the_headers_carry_it_on(recorded: RecordedSpans) -> None:
    def work() -> None:
        with request_span({}, "request"):
            with span("stage", {"lares.camera.id": "door"}):
                record = encode(INGESTED, MediaIngested(), outgoing_headers())
                end_spans([record.span])
            with request_span({k: v.decode() for k, v in record.headers}, "process"):
                pass

    alone(work)
    request, stage = recorded.one("request"), recorded.one("stage")
    publish, process = recorded.one("publish ingest.media.v1"), recorded.one("process")
    assert parent_of(request) is None
    assert [parent_of(each) for each in (stage, publish, process)] == [
        id_of(request),
        id_of(stage),
        id_of(publish),
    ]
    assert {trace_of(each) for each in recorded.all()} == {trace_of(request)}
    assert (stage.attributes or {})["lares.camera.id"] == "door"
    assert (publish.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.SERVER)


def test_each_message_has_the_parent_that_is_named(recorded: RecordedSpans) -> None:
    def work() -> None:
        first, second = begin_span("photo", {"n": 1}), begin_span("photo", {"n": 2})
        for each in (first, second):
            end_spans([encode(INGESTED, MediaIngested(), {}, each).span, each])

    alone(work)
    photos = {id_of(photo) for photo in recorded.named("photo")}
    assert {parent_of(record) for record in recorded.named("publish ingest.media.v1")} == photos
    assert len(photos) == 2


def test_what_is_not_sampled_is_neither_recorded_nor_carried_on_as_sampled(recorded: RecordedSpans) -> None:
    def work() -> None:
        with request_span({TRACEPARENT: UNSAMPLED}, "request"), span("stage"):
            assert outgoing_headers()[TRACEPARENT].startswith(UNSAMPLED[:36])
            assert outgoing_headers()[TRACEPARENT].endswith("-00")
            assert encode(INGESTED, MediaIngested(), outgoing_headers()).span is None
        with batch_spans([delivery(1, UNSAMPLED), delivery(2, "")], "batch"):
            pass

    alone(work)
    assert recorded.all() == []


def test_one_record_is_worked_off_under_its_own_span(recorded: RecordedSpans) -> None:
    def work() -> None:
        with batch_spans([delivery(7, SAMPLED)], "batch") as (followed,), span("statement"):
            assert followed.offset == 7
            assert followed.headers[TRACEPARENT].startswith(SAMPLED[:36])
            assert followed.headers[TRACEPARENT] != SAMPLED

    alone(work)
    process, statement = recorded.one(f"process {INGESTED.name}"), recorded.one("statement")
    assert f"{trace_of(process):032x}" == SAMPLED[3:35]
    assert f"{parent_of(process):016x}" == SAMPLED[36:52]
    assert parent_of(statement) == id_of(process)
    assert recorded.named("batch") == []
    assert dict(process.attributes or {})["messaging.kafka.offset"] == 7


def test_several_records_keep_their_traces_and_are_linked_with_the_batch(recorded: RecordedSpans) -> None:
    other = SAMPLED.replace("0af7", "1111")

    def work() -> None:
        with batch_spans([delivery(1, SAMPLED), delivery(2, ""), delivery(3, other)], "batch") as followed:
            with span("statement"):
                pass
            assert [TRACEPARENT in each.headers for each in followed] == [True, False, True]

    alone(work)
    batch, records = recorded.one("batch"), recorded.named(f"process {INGESTED.name}")
    assert {f"{trace_of(each):032x}" for each in records} == {SAMPLED[3:35], other[3:35]}
    assert parent_of(batch) is None
    assert {f"{link.context.trace_id:032x}" for link in batch.links} == {SAMPLED[3:35], other[3:35]}
    assert {link.context.span_id for each in records for link in each.links} == {id_of(batch)}
    assert parent_of(recorded.one("statement")) == id_of(batch)


def test_a_batch_that_fails_fails_all_its_spans(recorded: RecordedSpans) -> None:
    def work() -> None:
        batch = [delivery(1, SAMPLED), delivery(2, SAMPLED)]
        with pytest.raises(Unavailable), batch_spans(batch, "batch"):
            raise Unavailable("away", "AWAY")

    alone(work)
    assert [failure_of(each) for each in recorded.all()] == [("AWAY", True, "away")] * 3


def test_no_secret_reaches_a_span(recorded: RecordedSpans) -> None:
    secret = new_secret()

    def work() -> None:
        with request_span({}, "request"):
            with pytest.raises(Unavailable), span("stage"):
                raise Unavailable(f"no answer from kafka://me:hunter2@h:9 with {secret}", "AWAY")
            with pytest.raises(ValueError, match="hunter2"), span("bug"):
                raise ValueError("password hunter2")

    alone(work)
    told = " ".join(each.to_json() for each in recorded.all())
    assert failure_of(recorded.one("stage")) == ("AWAY", True, "no answer from kafka://me:***@h:9 with ***")
    assert failure_of(recorded.one("bug")) == ("ValueError", True, None)
    assert secret not in told
    assert "hunter2" not in told


def test_a_call_of_nobody_begins_no_trace_elsewhere(recorded: RecordedSpans) -> None:
    def work() -> None:
        with as_itself(), call_span(pb.GetIngestStatusRequest()):
            assert str(dict(metadata())[TRACEPARENT]).endswith("-00")
        assert not trace.get_current_span().get_span_context().is_valid
        with as_itself(), request_span({}, "request"), call_span(pb.GetIngestStatusRequest()):
            assert str(dict(metadata())[TRACEPARENT]).endswith("-03")  # sampled, and random

    alone(work)
    assert [each.name for each in recorded.all()] == ["lares.ingest.v1.GetIngestStatus", "request"]


class Servicer(rpc.IngestServiceServicer):
    """Raises what it is told to."""

    failure: Exception | None = None

    async def GetIngestStatus(
        self, request: pb.GetIngestStatusRequest, context: object
    ) -> pb.GetIngestStatusResponse:
        if self.failure:
            raise self.failure
        with span("handler's"):
            return pb.GetIngestStatusResponse()

    async def GetUpload(self, request: pb.GetUploadRequest, context: object) -> pb.GetUploadResponse:
        raise AssertionError("nobody uploads here")

    async def UploadMedia(self, request_iterator: object, context: object) -> pb.UploadMediaResponse:
        raise AssertionError("nobody uploads here")


async def test_both_sides_of_a_call_are_spans_and_say_how_it_failed(
    recorded: RecordedSpans, tmp_path: Path
) -> None:
    server, servicer, address = GrpcServer(CallInterceptor), Servicer(), f"unix:{tmp_path / 's'}"
    server.add(rpc.add_IngestServiceServicer_to_server, servicer, "lares.ingest.v1.IngestService")
    await server.listen(address, door=Door.SIBLINGS)
    await server.start()
    channels = Channels({}, {"ingest": address})
    stub = rpc.IngestServiceStub(channels.to("ingest"))

    async def ask(failure: Exception | None) -> None:
        servicer.failure = failure
        with request_span({}, "request"), as_itself():
            await call(stub.GetIngestStatus, pb.GetIngestStatusRequest())

    try:
        await asyncio.create_task(ask(None))
        for failure in (RuntimeError("secret"), NotFound("no such key", "NO_KEY"), Internal("x", "X")):
            with pytest.raises(Problem):
                await asyncio.create_task(ask(failure))
    finally:
        await channels.close()
        await server.stop(0)
    clients = recorded.named("lares.ingest.v1.GetIngestStatus")
    servers = recorded.named("lares.ingest.v1.IngestService/GetIngestStatus")
    assert [parent_of(each) for each in servers] == [id_of(each) for each in clients]
    assert parent_of(recorded.one("handler's")) == id_of(servers[0])
    assert [failure_of(each) for each in servers] == [
        (None, False, None),
        ("RuntimeError", True, None),
        ("NO_KEY", False, None),  # its caller's fault
        ("X", True, "x"),
    ]
    assert [failure_of(each)[:2] for each in clients] == [
        (None, False),
        ("INTERNAL", True),
        ("NO_KEY", True),
        ("X", True),
    ]


async def test_health_is_no_span(recorded: RecordedSpans, tmp_path: Path) -> None:
    server, address = GrpcServer(CallInterceptor), f"unix:{tmp_path / 's'}"
    await server.listen(address, door=Door.SIBLINGS)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest())
    finally:
        await server.stop(0)
    assert recorded.all() == []


async def test_log_lines_keep_the_trace_of_a_span_that_has_ended(recorded: RecordedSpans) -> None:
    async def work() -> int:
        enter_request({})
        with request_span({}, "request"):
            pass
        return trace.get_current_span().get_span_context().trace_id

    assert await asyncio.create_task(work()) == trace_of(recorded.one("request"))


async def test_a_task_that_is_made_within_a_span_works_under_it(recorded: RecordedSpans) -> None:
    async def work() -> None:
        with span("stage"):
            pass

    async def make() -> None:
        photo = begin_span("photo")
        with use_span(photo):
            task = asyncio.create_task(work())
        await task
        photo.end()

    await asyncio.create_task(make())
    assert parent_of(recorded.one("stage")) == id_of(recorded.one("photo"))


def failure_of(each: ReadableSpan) -> tuple[object, bool, str | None]:
    """Why, whether the span counts as failed, and what it says."""
    why = (each.attributes or {}).get("error.type")
    return why, each.status.status_code is trace.StatusCode.ERROR, each.status.description
