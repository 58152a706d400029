"""Traces from a photo to its assessment, and spans of statements, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Integer, Text, cast, select

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.problems import Problem
from mesh.telemetry.spans import request_span
from mesh.telemetry.trace_context import TRACEPARENT
from store_svc.database import Statement, open_database
from store_svc.database.statement import parameter
from store_svc.domain.job import Request
from tests.support.facts import assessed, detected, opened_by
from tests.support.recorded import Recorded, open_recorded
from tests.support.recorded_spans import id_of, parent_of, recording_spans, trace_of

EVENT = opened_by(1)
TRACES = [f"00-{n:032x}-{n:016x}-01" for n in range(1, 9)]
UNSAMPLED = TRACES[0][:-1] + "0"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def detect(store: Recorded, *photos: tuple[MediaDetected, str]) -> None:
    """Records one batch: each photo has the header `traceparent`, if it is not empty."""
    batch = store.batch("detect.detections.v1", [message for message, _ in photos], 0, None)
    headed = [
        replace(delivery, headers={TRACEPARENT: header} if header else {})
        for delivery, (_, header) in zip(batch, photos, strict=True)
    ]
    await store.detected.process(store.detections, headed)  # type: ignore[arg-type]


async def handed_out(store: Recorded) -> str:
    (lease,) = await store.take()
    return lease.traceparent


async def test_no_trace_is_stored_if_it_is_not_recorded(store: Recorded) -> None:
    await detect(store, (detected(1, 0), ""), (detected(2, 1, urgent=True), UNSAMPLED))
    assert (await store.event(EVENT))["traceparent"] is None
    job = await store.job(EVENT)
    assert job
    assert job["traceparent"] is None
    assert await handed_out(store) == ""


async def test_the_photo_that_makes_an_event_due_is_followed(store: Recorded) -> None:
    await detect(
        store,
        (detected(1, 0), TRACES[0]),
        (detected(2, 1, urgent=True), TRACES[1]),
        (detected(3, 2), TRACES[2]),
    )
    assert await handed_out(store) == TRACES[1]


async def test_the_last_photo_is_followed_when_the_event_is_closed(store: Recorded) -> None:
    await detect(store, (detected(1, 0), TRACES[0]))
    await detect(store, (detected(2, 1), TRACES[1]))
    await store.sweep(after=30)
    assert await handed_out(store) == TRACES[1]


async def test_a_waiting_job_follows_the_photo_that_changes_its_evidence(store: Recorded) -> None:
    await detect(store, (detected(1, 0, urgent=True), TRACES[0]))
    await detect(store, (detected(2, 1), TRACES[1]))
    assert await handed_out(store) == TRACES[1]


async def test_a_request_is_followed_until_it_is_answered(store: Recorded) -> None:
    request = Request(UUID(int=71))
    await detect(store, (detected(1, 0, urgent=True), TRACES[0]))
    with recording_spans() as spans, request_span({}, "asked"):
        await store.reassessments.request(UUID(EVENT), request)
    await detect(store, (detected(2, 1), TRACES[1]))  # does not change the trace of the request
    assert int((await handed_out(store))[3:35], 16) == trace_of(spans.one("asked"))
    await store.sweep(after=30)
    await store.assess(assessed(EVENT, str(UUID(int=1)), 1, "outgrown", request=str(request.id)))
    job = await store.job(EVENT)  # for the current evidence, which was not assessed
    assert job
    assert (job["request_id"], job["traceparent"]) == (None, TRACES[1])


async def test_the_wait_for_a_lease_is_a_span_from_when_it_was_due(store: Recorded) -> None:
    await detect(store, (detected(1, 0, urgent=True), TRACES[0]))
    with recording_spans() as spans:
        header = await handed_out(store)
    wait = spans.one("wait for lease")
    assert f"{parent_of(wait):016x}" == TRACES[0][36:52]
    assert header[36:52] == f"{id_of(wait):016x}"
    assert header[3:35] == TRACES[0][3:35]
    assert wait.start_time == round(store.now.timestamp() * 1e9)


async def test_statements_are_children_of_the_work_that_needs_them(postgres_url: str) -> None:
    with recording_spans() as spans:
        async with open_recorded(postgres_url) as store:
            await detect(store, (detected(1, 0), TRACES[0]))
            assert {parent_of(each) for each in spans.named("COPY")} == {
                id_of(spans.one("process detect.detections.v1"))
            }
            await detect(store, (detected(2, 1), TRACES[1]), (detected(3, 2), TRACES[2]))
            assert id_of(spans.one("record detect.detections.v1")) in {
                parent_of(each) for each in spans.named("COPY")
            }


async def test_statements_outside_a_trace_have_no_spans_and_spans_have_no_values(
    postgres_url: str,
) -> None:
    value = parameter("value", Text)
    joined = Statement(select((value + "x").label("core")))
    converted = Statement(select(cast(value, Integer).label("core")))
    with recording_spans() as spans:
        async with open_database(postgres_url) as database:
            async with database.connection() as connection:
                await joined.fetch(connection, value="hunter2")
            assert spans.all() == []
            with request_span({}, "request"):
                async with database.connection() as connection:
                    await joined.fetch(connection, value="hunter2")
                    await connection.fetch("SELECT $1::text /* asyncpg */", "hunter2")
                    with pytest.raises(Exception, match="hunter2"):
                        await connection.fetchval("SELECT $1::text::int", "hunter2")
                with pytest.raises(Problem):
                    async with database.connection() as connection:
                        await converted.fetch(connection, value="hunter2")
    request = spans.one("request")
    selects = spans.named("SELECT")
    assert {parent_of(each) for each in selects} == {id_of(request)}
    assert [not each.status.is_ok for each in selects] == [False, False, True, True]
    texts = [str((each.attributes or {})["db.query.text"]) for each in selects]
    assert "core" in texts[0]
    assert "asyncpg" in texts[1]
    assert "hunter2" not in " ".join(each.to_json() for each in spans.all())
