"""Records EventAssessed: assessments and failed attempts, and what they change of their events."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import EventAssessed
from mesh.delivery import Delivery
from mesh.topics import ASSESSED
from store_svc.database.statement import Connection, Statement, equals, one_of, parameter
from store_svc.database.tables import assessment_failures, assessments, raw_answers, tombstones
from store_svc.domain.event import StoredAssessment
from store_svc.domain.job import ASSESS
from store_svc.domain.queued_event import QueuedEvent
from store_svc.event_repository import load_queued, lock_cameras, write_events, write_queue, write_unseen
from store_svc.job_queue import hasten_jobs
from store_svc.recording.record_fields import bad_record, read_time, read_uuid
from store_svc.recording.recorder import Effect
from store_svc.times import moment

_failures = assessment_failures.c
_STORED = Statement(
    select(
        assessments.c.id,
        assessments.c.evidence_revision,
        assessments.c.evidence_digest,
        assessments.c.severity,
        assessments.c.body,
        assessments.c.request_id,
    ).where(one_of(assessments.c.id, "ids"))
)
_WRITE_FAILURE = Statement(insert(assessment_failures).on_conflict_do_nothing().returning(_failures.id))
_GIVE_UP = Statement(
    update(assessment_failures)
    .values(given_up_request_id=parameter("request_id", _failures.given_up_request_id))
    .where(equals(_failures.id, "failure_id"))
)
# Failures that gave up a request stay: the same request, sent again, must not be a new one.
_DELETE_EARLIER_FAILURES = Statement(
    delete(assessment_failures).where(
        equals(_failures.event_id, "of_event"),
        _failures.id != parameter("failure_id", _failures.id),
        _failures.given_up_request_id.is_(None),
    )
)
_DELETED_EVENTS = Statement(
    select(tombstones.c.id).where(tombstones.c.kind == "event", one_of(tombstones.c.id, "ids"))
)


def _write_assessment() -> Statement:
    """Writes an assessment and its raw answer, unless the assessment is there already."""
    written = {
        column.name: parameter(column.name, column)
        for column in assessments.columns
        if column is not assessments.c.number
    }
    new = insert(assessments).values(written).on_conflict_do_nothing().returning(assessments.c.id).cte("new")
    raw_answer = parameter("raw_answer", raw_answers.c.body)
    return Statement(
        insert(raw_answers).from_select(
            ["assessment_id", "body"], select(new.c.id, raw_answer).where(raw_answer.is_not(None))
        )
    )


_WRITE_ASSESSMENT = _write_assessment()


@dataclass(frozen=True, slots=True)
class AssessmentRecord:
    """One EventAssessed that was checked.

    `row` is the row of the table `assessments`, or of `assessment_failures` if the attempt has `failed`,
    without its time of recording. `request_id` is the request that the record answers or gives up.
    """

    id: UUID
    event_id: UUID
    evidence_digest: str
    request_id: UUID | None
    failed: bool
    row: Mapping[str, object]
    raw_answer: bytes | None


class EventAssessedRecorder:
    """The first record with an id counts. A record of an unknown event is stored.

    An assessment shows that the reasoner works, so jobs that failed before are due again: they are done in
    the order of the queue, and not as their pauses end. Each is hastened once, so that one which always fails
    is not tried again after every success.
    """

    topic = ASSESSED

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def read(self, delivery: Delivery[EventAssessed]) -> AssessmentRecord:
        message = delivery.message
        failed = message.WhichOneof("outcome") == "failure"
        event_id = read_uuid(message.event_id, "event_id")
        id = read_uuid(message.failure.id if failed else message.assessment.id, "outcome's id")
        request = message.failure.given_up_request_id if failed else message.assessment.request_id
        request_id = read_uuid(request, "request_id") if request else None
        row = {
            "id": id,
            "event_id": event_id,
            "evidence_revision": message.evidence_revision,
            "evidence_digest": message.evidence_digest,
        }
        if failed:
            row |= {"given_up_request_id": request_id} | _failure_columns(message)
        else:
            row |= {"request_id": request_id} | _assessment_columns(message)
        raw_answer = None if failed else _raw_answer(message)
        return AssessmentRecord(id, event_id, message.evidence_digest, request_id, failed, row, raw_answer)

    async def write(self, connection: Connection, items: Sequence[AssessmentRecord]) -> Effect:
        now = self._clock()
        names = await lock_cameras(connection, [item.event_id for item in items])
        deleted = await _deleted_events(connection, [item.event_id for item in items])
        items = [item for item in items if item.event_id not in deleted]
        queue = await load_queued(connection, {item.event_id for item in items})
        # An event committed after the cameras were locked counts as unknown: its camera is not locked.
        events = {id: queued for id, queued in queue.items() if queued.event.camera_id in names}
        stored = await _write_assessments(connection, [item for item in items if not item.failed], now)
        new_failures = await _write_failures(connection, [item for item in items if item.failed], now)
        revisions = {id: queued.event.revision for id, queued in events.items()}
        changed: dict[UUID, QueuedEvent] = {}
        given_up: list[dict[str, object]] = []
        last_failures: dict[UUID, UUID] = {}
        reasoner_works = False
        for item in items:
            queued = events.get(item.event_id)
            if queued is None or (item.failed and item.id not in new_failures):
                continue
            if item.failed:
                new_failures.remove(item.id)  # a repeated record counts once
                request_before = _request_id(queued)
                matters = _apply_failure(queued, item, now)
                if request_before and not _request_id(queued):
                    given_up.append({"failure_id": item.id, "request_id": request_before})
                if matters:
                    last_failures[item.event_id] = item.id
            else:
                matters = queued.apply_assessment(stored[item.id])
                # Another reasoner may have answered a request, while the configured one still fails.
                reasoner_works |= matters and not item.request_id
            if matters:
                changed[item.event_id] = queued
        if last_failures:  # most batches have no failure, and are spared these two round trips
            await _GIVE_UP.execute_many(connection, given_up)
            await _DELETE_EARLIER_FAILURES.execute_many(
                connection,
                [{"of_event": event, "failure_id": failure} for event, failure in last_failures.items()],
            )
        await write_queue(connection, changed.values())
        hastened = reasoner_works and await hasten_jobs(connection, ASSESS, now)
        seen = [queued.event for id, queued in changed.items() if queued.event.revision > revisions[id]]
        unseen = [queued.event for id, queued in changed.items() if queued.event.revision <= revisions[id]]
        await write_unseen(connection, unseen)
        await write_events(connection, [], seen, names, now)
        return Effect(outbox=bool(seen), due=hastened or any(queued.job for queued in changed.values()))


def _apply_failure(queued: QueuedEvent, failure: AssessmentRecord, now: datetime) -> bool:
    """Returns whether it changed anything."""
    if failure.request_id:
        return queued.give_up_request(failure.id, failure.request_id)
    return queued.record_failure(failure.id, failure.evidence_digest, now)


def _request_id(queued: QueuedEvent) -> UUID | None:
    """Of the request that waits."""
    return queued.job.request.id if queued.job and queued.job.request else None


async def _deleted_events(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    return {row["id"] for row in await _DELETED_EVENTS.fetch(connection, ids=list(ids))}


async def _write_assessments(
    connection: Connection, items: Sequence[AssessmentRecord], now: datetime
) -> dict[UUID, StoredAssessment]:
    """Writes those that are not stored yet, and returns what is stored, by id."""
    rows = [{**item.row, "recorded_at": now, "raw_answer": item.raw_answer} for item in items]
    await _WRITE_ASSESSMENT.execute_many(connection, rows)
    stored = await _STORED.fetch(connection, ids=[item.id for item in items])
    return {row["id"]: StoredAssessment(**row) for row in stored}


async def _write_failures(
    connection: Connection, items: Sequence[AssessmentRecord], now: datetime
) -> set[UUID]:
    """Writes those that are not stored yet, and returns their ids."""
    written = [await _WRITE_FAILURE.fetch_value(connection, **item.row, recorded_at=now) for item in items]
    return {id for id in written if id is not None}


def _assessment_columns(message: EventAssessed) -> dict[str, object]:
    assessment = message.assessment
    if not 0 <= assessment.score <= 100 or not assessment.severity:
        raise bad_record("the outcome has no score in 0..100, or no severity")
    return {
        "score": assessment.score,
        "severity": assessment.severity,
        "body": _stored_body(assessment),
        "assessed_at": moment(read_time(assessment.assessed_at, "assessed_at")),
    }


def _failure_columns(message: EventAssessed) -> dict[str, object]:
    failure = message.failure
    return {
        "reason": failure.reason,
        "detail": failure.detail,
        "failed_at": moment(read_time(failure.failed_at, "failed_at")),
    }


def _stored_body(assessment: Assessment) -> bytes:
    """The message without its raw answer, which has a table of its own, and without unknown fields: it is
    copied into every list and every feed entry, and a field that only a later version knows would remain in
    all of them."""
    stored = Assessment()
    stored.CopyFrom(assessment)
    stored.ClearField("raw_answer")
    stored.DiscardUnknownFields()
    return stored.SerializeToString()


def _raw_answer(message: EventAssessed) -> bytes | None:
    """In UTF-8; None if the record has none. Earlier versions wrote it into the assessment."""
    raw_answer = message.raw_answer or message.assessment.raw_answer
    return raw_answer.encode() if raw_answer else None
