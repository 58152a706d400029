"""EventService over gRPC, by pytest-grpc, on a real PostgreSQL."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from random import Random
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED, EVENT_STATUS_FAILED, EVENT_STATUS_PENDING, Event
from lares.store.v1.event_service_pb2_grpc import EventServiceStub, add_EventServiceServicer_to_server
from lares.store.v1.events_pb2 import EventChanged
from mesh.feed import Feed
from mesh.problems import Invalid, NotFound
from mesh.rpc import problem_of
from store_svc.api.events import EventServicer, Lag, TopicLags
from store_svc.commit_signals import CommitSignals
from store_svc.database import tables
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
    feed_row,
)
from tests.support.sync_database import AS_KEY, SyncDatabase, refused

LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4


class ScriptedFeed(Feed):
    """Yields the given changes, then ends."""

    def __init__(self) -> None:  # without a bus behind it
        self.changes: list[EventChanged] = []
        self.asked: list[int | None] = []

    async def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        self.asked.append(after)
        for change in self.changes:
            yield change

    async def watch_with_positions(
        self, after: int | None, idle_seconds: float
    ) -> AsyncGenerator[EventChanged | int, None]:
        async for change in self.watch(after):
            yield change
        yield self.changes[-1].sequence if self.changes else after or 0


@pytest.fixture(scope="module")
def stored(loop_thread: LoopThread, postgres_server: str) -> SyncDatabase:
    return SyncDatabase(loop_thread, postgres_server)


@pytest.fixture(scope="module")
def live() -> ScriptedFeed:
    return ScriptedFeed()


@pytest.fixture(scope="module")
def status() -> TopicLags:
    def lag(records: int) -> Lag:
        async def read() -> int:
            return records

        return read

    return TopicLags(lag(17), lag(18), lag(19), lag(20))


@pytest.fixture(scope="module")
def grpc_servicer(stored: SyncDatabase, live: ScriptedFeed, status: TopicLags) -> EventServicer:
    due = CommitSignals().due
    reassessments = Reassessments(stored.database, due, lambda: NOON)
    return EventServicer(
        stored.database, live, reassessments, EvidenceReader(), cast(Any, None), status, lambda: NOON
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


def ids(rows: list[Row]) -> list[str]:
    return [str(row["id"]) for row in rows]


def listed(events: EventServiceStub, **request: Any) -> list[str]:
    return [event.id for event in events.ListEvents(pb.ListEventsRequest(**request)).events]


# One event


def test_an_event_has_the_current_name_of_its_camera_and_its_assessment(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    row, assessment = assessed_rows(HIGH, started_at=at(0.000001), ended_at=at(2), revision=4, sequence=9)
    stored.write(tables.events, row)
    stored.write(tables.assessments, assessment, assessment_row(uuid4(), row["id"], LOW))
    stored.write(tables.cameras, camera_row("front", display_name="Porch", deleted_at=NOON))
    event = events.GetEvent(pb.GetEventRequest(event_id=str(row["id"])), metadata=AS_KEY).event
    assert event == Event(
        id=str(row["id"]),
        camera_id="front",
        camera_name="Porch",
        status=EVENT_STATUS_ASSESSED,
        revision=4,
        sequence=9,
        started_at=stamp(at(0.000001)),
        ended_at=stamp(at(2)),
        closed=True,
        labels=["person"],
        detection_count=1,
        media_count=1,
        assessment=event.assessment,
    )
    assert (event.assessment.score, event.assessment.severity) == (70, HIGH)


def test_an_event_that_was_not_assessed_has_no_assessment(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    row = event_row()
    stored.write(tables.events, row)
    event = events.GetEvent(pb.GetEventRequest(event_id=str(row["id"]))).event
    assert not event.HasField("assessment")
    assert (event.status, event.camera_name) == (EVENT_STATUS_PENDING, "front")


def test_an_unknown_event_is_not_found(events: EventServiceStub) -> None:
    with refused(NotFound, "EVENT_NOT_FOUND"):
        events.GetEvent(pb.GetEventRequest(event_id=str(uuid4())))


def test_an_id_that_is_not_a_uuid_is_refused(events: EventServiceStub) -> None:
    with refused(Invalid, "BAD_REQUEST"):
        events.GetEvent(pb.GetEventRequest(event_id="../1"))


# The list


def test_events_are_listed_newest_first(events: EventServiceStub, stored: SyncDatabase) -> None:
    rows = [event_row(started_at=at(n // 3)) for n in range(60)]
    Random(1).shuffle(rows)
    stored.write(tables.events, *rows)
    newest_first = sorted(rows, key=lambda row: (row["started_at"], row["id"].bytes), reverse=True)
    assert listed(events) == ids(newest_first)[:50]
    assert listed(events, page_size=60) == ids(newest_first)


def test_a_page_is_bounded(events: EventServiceStub) -> None:
    with refused(Invalid, "BAD_REQUEST"):
        events.ListEvents(pb.ListEventsRequest(page_size=201))


def test_every_event_has_a_token_for_the_events_after_it(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    stored.write(tables.events, *[event_row(started_at=at(n // 2)) for n in range(7)])
    whole = events.ListEvents(pb.ListEventsRequest(page_size=7))
    order = [event.id for event in whole.events]
    assert whole.next_page_token == ""
    for place, token in enumerate(whole.page_tokens, 1):
        assert listed(events, page_token=token) == order[place:]


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_pages_contain_each_event_once(events: EventServiceStub, stored: SyncDatabase, size: int) -> None:
    stored.write(tables.events, *[event_row(started_at=at(n // 4)) for n in range(7)])
    assert walk(events, size) == listed(events)


def walk(events: EventServiceStub, size: int, between: Any = lambda: None) -> list[str]:
    seen: list[str] = []
    request = pb.ListEventsRequest(page_size=size)
    while True:
        page = events.ListEvents(request)
        assert len(page.events) == len(page.page_tokens) <= size
        seen += [event.id for event in page.events]
        request.page_token = page.next_page_token
        if not request.page_token:
            return seen
        between()


def test_paging_while_events_arrive_repeats_none_and_misses_none(
    events: EventServiceStub, stored: SyncDatabase
) -> None:
    random = Random(7)
    rows = [event_row(started_at=at(random.randrange(20))) for _ in range(60)]
    stored.write(tables.events, *rows)

    def more() -> None:
        stored.write(tables.events, *[event_row(started_at=at(random.randrange(-5, 30))) for _ in range(5)])

    seen = walk(events, 7, more)
    assert len(seen) == len(set(seen))
    assert set(seen) >= set(ids(rows))


ANYWHERE: dict[str, Any] = {}
MANY: list[tuple[dict[str, Any], set[int]]] = [
    (ANYWHERE, {0, 1, 2, 3, 4, 5}),
    ({"camera_ids": ["back"]}, {2, 3}),
    ({"camera_ids": ["back", "garage", "none"]}, {2, 3, 4}),
    ({"camera_ids": ["none"]}, set()),
    ({"labels": ["cat"]}, {1, 3}),
    ({"labels": ["cat", "car"]}, {1, 3, 4}),
    ({"labels": [" Person "]}, {0, 1, 2, 5}),
    ({"labels": ["motorbike", "traffic_light"]}, set()),
    ({"severities": [HIGH]}, {1}),
    ({"severities": [HIGH, LOW]}, {1, 2}),
    ({"statuses": [EVENT_STATUS_PENDING]}, {0, 5}),
    ({"statuses": [EVENT_STATUS_FAILED, EVENT_STATUS_ASSESSED]}, {1, 2, 3, 4}),
    ({"started_after": stamp(at(20))}, {2, 3, 4, 5}),
    ({"started_before": stamp(at(20))}, {0, 1}),
    ({"started_after": stamp(at(10)), "started_before": stamp(at(30))}, {1, 2}),
    ({"started_after": stamp(at(20) - timedelta(microseconds=1))}, {2, 3, 4, 5}),
    ({"started_after": stamp(at(20) + timedelta(microseconds=1))}, {3, 4, 5}),
    ({"camera_ids": ["back"], "labels": ["cat"], "statuses": [EVENT_STATUS_FAILED]}, {3}),
    ({"camera_ids": ["back"], "severities": [LOW], "started_after": stamp(at(21))}, set()),
    ({"labels": ["person"], "severities": [HIGH], "started_before": stamp(at(11))}, {1}),
]


@pytest.fixture
def six(events: EventServiceStub, stored: SyncDatabase) -> list[Row]:
    high, high_assessment = assessed_rows(HIGH, started_at=at(10), labels=["cat", "person"])
    low, low_assessment = assessed_rows(LOW, started_at=at(20), camera_id="back")
    critical, critical_assessment = assessed_rows(
        CRITICAL, started_at=at(40), camera_id="garage", labels=["car"]
    )
    rows = [
        event_row(started_at=at(0)),
        high,
        low,
        event_row(started_at=at(30), camera_id="back", labels=["cat"], status=EVENT_STATUS_FAILED),
        critical,
        event_row(started_at=at(50)),
    ]
    stored.write(tables.events, *rows)
    stored.write(tables.assessments, high_assessment, low_assessment, critical_assessment)
    return rows


@pytest.mark.parametrize(("filter", "wanted"), MANY, ids=lambda value: str(value) if value else "none")
def test_filters(events: EventServiceStub, six: list[Row], filter: dict[str, Any], wanted: set[int]) -> None:
    newest_first = [str(six[n]["id"]) for n in sorted(wanted, reverse=True)]
    assert listed(events, filter=pb.EventFilter(**filter)) == newest_first
    paged = events.ListEvents(pb.ListEventsRequest(filter=pb.EventFilter(**filter), page_size=1))
    if len(wanted) > 1:
        rest = listed(events, filter=pb.EventFilter(**filter), page_token=paged.next_page_token)
        assert rest == newest_first[1:]
    else:
        assert paged.next_page_token == ""


def test_a_token_is_valid_only_for_its_filter(events: EventServiceStub, six: list[Row]) -> None:
    for filter, wanted in MANY:
        token = events.ListEvents(
            pb.ListEventsRequest(filter=pb.EventFilter(**filter), page_size=1)
        ).next_page_token
        for other, _ in MANY:
            if len(wanted) > 1 and other != filter:
                with refused(Invalid, "BAD_PAGE_TOKEN"):
                    listed(events, filter=pb.EventFilter(**other), page_token=token)


def test_the_order_of_a_filters_values_is_the_same_filter(events: EventServiceStub, six: list[Row]) -> None:
    one, other = pb.EventFilter(labels=["cat", "person"]), pb.EventFilter(labels=["Person", "cat", "CAT"])
    token = events.ListEvents(pb.ListEventsRequest(filter=one, page_size=1)).next_page_token
    assert listed(events, filter=other, page_token=token) == listed(events, filter=one)[1:]


@pytest.mark.parametrize("label", ["persn", "", "*", "x" * 100_000, "forklift"])
def test_an_unknown_label_is_refused(events: EventServiceStub, six: list[Row], label: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        listed(events, filter=pb.EventFilter(labels=["person", label]))
    problem = problem_of(failure.value)  # type: ignore[arg-type]
    assert (type(problem), problem.reason) == (Invalid, "UNKNOWN_LABEL")
    assert problem.metadata["label"] == label[:64]
    assert f"{label[:64]!r} is not a known label; these are: airplane, apple, " in problem.message
    assert ", person, " in problem.message


def test_a_label_that_a_detector_has_reported_is_known(
    events: EventServiceStub, stored: SyncDatabase, six: list[Row]
) -> None:
    labels = ["forklift", *(f"class {number}" for number in range(3000))]
    stored.write(
        tables.detectors,
        {"id": "custom", "labels": labels, "threshold": 0.5, "fast_threshold": 0.5, "reported_at": NOON},
    )
    stored.write(tables.events, event_row(started_at=at(60), labels=["forklift"]))
    assert len(listed(events, filter=pb.EventFilter(labels=["Forklift"]))) == 1
    assert listed(events, filter=pb.EventFilter(labels=["person"]))
    with refused(Invalid, "UNKNOWN_LABEL"):
        listed(events, filter=pb.EventFilter(labels=["fork lift"]))


@pytest.mark.parametrize("seconds", [10**12, -(10**12), 2**62])
def test_a_time_beyond_the_calendar_is_refused(events: EventServiceStub, seconds: int) -> None:
    with refused(Invalid, "BAD_TIME"):
        listed(events, filter=pb.EventFilter(started_after=Timestamp(seconds=seconds)))


# The feed


def watched(events: EventServiceStub, **request: Any) -> list[int]:
    answers = list(events.WatchEvents(pb.WatchEventsRequest(**request)))
    return [answer.change.sequence for answer in answers if answer.HasField("change")]


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"camera_ids": ["back"]}, [3, 5]),
        ({"camera_ids": ["back", "front"]}, [1, 2, 3, 4, 5]),
        ({"min_severity": LOW}, [2, 3, 4]),
        ({"min_severity": HIGH}, [2, 4]),
        ({"min_severity": CRITICAL}, [4]),
        ({"min_severity": LOW, "camera_ids": ["back"]}, [3]),
        ({"zone_ids": ["path"]}, [2, 3, 4]),
        ({"zone_ids": ["steps", "nowhere"]}, [3, 4]),
        ({"zone_ids": ["path"], "min_severity": HIGH}, [2, 4]),
    ],
)
def test_watching_omits_what_the_filter_excludes(
    events: EventServiceStub, live: ScriptedFeed, request_: dict[str, Any], wanted: list[int]
) -> None:
    rows = [
        feed_row(1),
        feed_row(2, HIGH),
        feed_row(3, LOW, camera_id="back"),
        feed_row(4, deleted=True),
        feed_row(5, camera_id="back"),
    ]
    live.changes = [EventChanged.FromString(row["body"]) for row in rows]
    live.changes[1].event.zone_ids[:] = ["path"]
    live.changes[2].event.zone_ids[:] = ["path", "steps"]
    assert watched(events, **request_) == wanted


def test_only_a_filtered_watch_gets_bookmarks(events: EventServiceStub, live: ScriptedFeed) -> None:
    live.changes = [EventChanged.FromString(feed_row(sequence)["body"]) for sequence in (1, 2, 3)]
    for request in ({"camera_ids": ["back"]}, {"min_severity": HIGH}, {"zone_ids": ["path"]}):
        (answer,) = events.WatchEvents(pb.WatchEventsRequest(**request))
        assert (answer.WhichOneof("content"), answer.bookmark) == ("bookmark", 3)
    answers = list(events.WatchEvents(pb.WatchEventsRequest()))
    assert [answer.WhichOneof("content") for answer in answers] == ["change"] * 3


def test_watching_from_zero_differs_from_watching_from_now(
    events: EventServiceStub, live: ScriptedFeed
) -> None:
    live.asked.clear()
    for request in ({}, {"after": 0}, {"after": 3}):
        watched(events, **request)
    assert live.asked == [None, 0, 3]


# The state


def test_the_status_counts_what_is_in_flight(events: EventServiceStub, stored: SyncDatabase) -> None:
    others: dict[str, Any] = {
        "detections_lag": 17,
        "rejections_lag": 18,
        "assessments_lag": 19,
        "renditions_lag": 20,
    }
    idle = events.GetStoreStatus(pb.GetStoreStatusRequest(), metadata=AS_KEY)
    assert idle == pb.GetStoreStatusResponse(**others, eta=Duration())
    stored.write(tables.events, event_row(), event_row(closed=True))
    stored.write_due(
        due_rows(due_at=at(-10)),
        due_rows(due_at=at(280), waiting_since=at(-1100)),  # failed, and due again later
        due_rows(due_at=at(-20), lease_id=uuid4(), leased_until=at(5)),
        due_rows(due_at=at(-10), lease_id=uuid4(), leased_until=at(-5)),
    )
    stored.write(tables.camera_outbox, {"camera_id": "front", "body": b""})
    stored.execute("UPDATE feed_head SET sequence = 12")
    stored.execute("UPDATE feed_published SET sequence = 9")
    assert events.GetStoreStatus(pb.GetStoreStatusRequest()) == pb.GetStoreStatusResponse(
        **others,
        open_events=1,
        due_events=4,
        leased_events=1,
        oldest_due_at=stamp(at(-1100)),
        outbox=4,
        sequence=12,
    )
