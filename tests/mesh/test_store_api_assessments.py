"""Reassessments and the history of assessments by EventService over gRPC, on a real PostgreSQL."""

from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_service_pb2_grpc import EventServiceStub, add_EventServiceServicer_to_server
from mesh.problems import Invalid, NotFound
from store_svc.api.events import EventServicer, TopicLags
from store_svc.commit_signals import CommitSignals
from store_svc.database import tables
from store_svc.domain.event import FAILED
from store_svc.queries.evidence import EvidenceReader
from store_svc.reassessments import Reassessments
from store_svc.times import stamp
from tests.support.loop_thread import LoopThread
from tests.support.store_rows import (
    NOON,
    Row,
    assessed_rows,
    assessment_row,
    at,
    camera_row,
    due_rows,
    event_row,
    failure_row,
)
from tests.support.sync_database import AS_KEY, SyncDatabase, refused

REQUEST, OTHER = str(uuid4()), str(uuid4())

nothing = cast(Any, None)


async def no_lag() -> int:
    return 0


@pytest.fixture(scope="module")
def stored(loop_thread: LoopThread, postgres_server: str) -> SyncDatabase:
    return SyncDatabase(loop_thread, postgres_server)


@pytest.fixture(scope="module")
def grpc_servicer(stored: SyncDatabase) -> EventServicer:
    reassessments = Reassessments(stored.database, CommitSignals().due, lambda: NOON)
    status = TopicLags(no_lag, no_lag, no_lag, no_lag)
    return EventServicer(
        stored.database, nothing, reassessments, EvidenceReader(), nothing, status, lambda: NOON
    )


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return add_EventServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return EventServiceStub


@pytest.fixture
def events(grpc_stub: EventServiceStub, stored: SyncDatabase) -> EventServiceStub:
    stored.clear()
    return grpc_stub


@pytest.fixture
def event(events: EventServiceStub, stored: SyncDatabase) -> str:
    """The id of an assessed event, of a camera with a name."""
    row, assessment = assessed_rows(3)
    stored.write(tables.cameras, camera_row("front", display_name="Front door"))
    stored.write(tables.events, row)
    stored.write(tables.assessments, assessment)
    return str(row["id"])


# Requesting


def test_a_key_may_request_a_reassessment_and_gets_the_event(events: EventServiceStub, event: str) -> None:
    request = pb.ReassessEventRequest(event_id=event, request_id=REQUEST, model="m", prompt="v2")
    answer = events.ReassessEvent(request, metadata=AS_KEY)
    assert (answer.request_id, answer.event.id, answer.event.camera_name) == (REQUEST, event, "Front door")
    assert answer.event == events.GetEvent(pb.GetEventRequest(event_id=event)).event


def test_a_request_without_an_id_gets_a_new_one(events: EventServiceStub, event: str) -> None:
    first = events.ReassessEvent(pb.ReassessEventRequest(event_id=event)).request_id
    assert str(UUID(first)) == first
    assert events.ReassessEvent(pb.ReassessEventRequest(event_id=event)).request_id != first


def test_a_request_id_has_one_spelling(events: EventServiceStub, event: str) -> None:
    for written in (REQUEST.upper(), REQUEST):
        request = pb.ReassessEventRequest(event_id=event.upper(), request_id=written)
        assert events.ReassessEvent(request).request_id == REQUEST


def test_nobody_asks_in_vain(events: EventServiceStub, event: str) -> None:
    with refused(NotFound, "EVENT_NOT_FOUND"):
        events.ReassessEvent(pb.ReassessEventRequest(event_id=str(uuid4())))
    bad: list[dict[str, str]] = [
        {"event_id": "x"},
        {"request_id": "x"},
        {"model": "m" * 257},
        {"prompt": "p" * 65},
    ]
    for wrong in bad:
        with refused(Invalid, "BAD_REQUEST"):
            events.ReassessEvent(pb.ReassessEventRequest(**({"event_id": event} | wrong)))


# The history


def history(event_id: str, count: int) -> list[Row]:
    """In the order of recording, which is not that of the times or of the ids."""
    rows = [assessment_row(UUID(int=count - n), UUID(event_id), 1 + n % 4) for n in range(count)]
    return [row | {"recorded_at": at(-n % 3)} for n, row in enumerate(rows)]


def listed(events: EventServiceStub, event_id: str, **request: Any) -> list[str]:
    answer = events.ListAssessments(pb.ListAssessmentsRequest(event_id=event_id, **request))
    return [assessment.id for assessment in answer.assessments]


def test_the_last_recorded_is_first_and_pages_contain_each_once(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    event_id = str(uuid4())
    rows = history(event_id, 25)
    stored.write(tables.assessments, *rows, assessment_row(uuid4(), uuid4(), 1))
    newest_first = [str(row["id"]) for row in reversed(rows)]
    assert listed(events, event_id) == newest_first[:20]
    assert listed(events, event_id, page_size=100) == newest_first
    whole = events.ListAssessments(
        pb.ListAssessmentsRequest(event_id=event_id, page_size=25), metadata=AS_KEY
    )
    assert whole.next_page_token == ""
    for place, token in enumerate(whole.page_tokens, 1):
        assert listed(events, event_id, page_size=25, page_token=token) == newest_first[place:]
    first = events.ListAssessments(pb.ListAssessmentsRequest(event_id=event_id, page_size=24))
    assert listed(events, event_id, page_token=first.next_page_token) == newest_first[24:]


def test_an_assessment_is_listed_as_its_event_has_it(
    events: EventServiceStub, stored: SyncDatabase, event: str
) -> None:
    (listed,) = events.ListAssessments(pb.ListAssessmentsRequest(event_id=event)).assessments
    assert listed == events.GetEvent(pb.GetEventRequest(event_id=event)).event.assessment


def test_an_unknown_event_has_no_assessments(events: EventServiceStub) -> None:
    assert events.ListAssessments(pb.ListAssessmentsRequest(event_id=OTHER)) == pb.ListAssessmentsResponse()


def test_a_token_is_valid_only_for_its_event(events: EventServiceStub, stored: SyncDatabase) -> None:
    event_id = str(uuid4())
    stored.write(tables.assessments, *history(event_id, 3))
    page = events.ListAssessments(pb.ListAssessmentsRequest(event_id=event_id, page_size=1))
    with refused(Invalid, "BAD_PAGE_TOKEN"):
        listed(events, OTHER, page_token=page.next_page_token)
    with refused(Invalid, "BAD_REQUEST"):
        listed(events, event_id, page_size=101)


# The failures


def test_the_last_failures_of_many_events(events: EventServiceStub, stored: SyncDatabase) -> None:
    failed, asked, well = event_row(status=FAILED), event_row(), event_row()
    last, given_up = failure_row(failed["id"]), failure_row(asked["id"], given_up_request_id=UUID(REQUEST))
    failed["failure_id"], asked["failure_id"] = last["id"], given_up["id"]
    stored.write(tables.events, failed, asked, well)
    stored.write(
        tables.assessment_failures, last, given_up, failure_row(failed["id"]), failure_row(well["id"])
    )
    ids = [str(row["id"]) for row in (failed, asked, well)]
    request = pb.BatchGetFailuresRequest(event_ids=[*ids, str(uuid4())])
    answer = events.BatchGetFailures(request, metadata=AS_KEY)
    failure = {"reason": "BAD_ANSWER", "detail": "no JSON", "failed_at": stamp(NOON)}
    assert {failure.event_id: failure for failure in answer.failures} == {
        ids[0]: pb.EventFailure(event_id=ids[0], **failure),  # type: ignore[arg-type]
        ids[1]: pb.EventFailure(event_id=ids[1], given_up_request_id=REQUEST, **failure),  # type: ignore[arg-type]
    }
    with refused(Invalid, "BAD_REQUEST"):
        events.BatchGetFailures(pb.BatchGetFailuresRequest(event_ids=["x"]))


# The pace


def test_the_eta_follows_from_the_pace_of_the_last_five_minutes(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    def pace() -> tuple[int, timedelta | None]:
        status = events.GetStoreStatus(pb.GetStoreStatusRequest())
        return status.recently_assessed, status.eta.ToTimedelta() if status.HasField("eta") else None

    def assess(*seconds: float) -> None:
        rows = [assessment_row(uuid4(), uuid4(), 1) | {"recorded_at": at(second)} for second in seconds]
        stored.write(tables.assessments, *rows)

    assert pace() == (0, Duration().ToTimedelta())
    stored.write_due(*[due_rows() for _ in range(9)])
    assert pace() == (0, None)
    assess(-300, -301, 1)  # too long ago, and by a clock that was set back since
    assert pace() == (0, None)
    assess(-299, -60, 0)
    assert pace() == (3, timedelta(seconds=900))
    stored.execute("TRUNCATE jobs")
    assert pace() == (3, timedelta(0))
