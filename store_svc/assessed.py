"""Records EventAssessed: judgements and failed attempts, and what they change of their events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from lares.reason.v1.events_pb2 import EventAssessed
from mesh.delivery import Delivery
from mesh.topics import ASSESSED
from store_svc.assessment_body import raw_answer_of, stored_body
from store_svc.domain.event import StoredAssessment, StoredEvent
from store_svc.domain.job import ASSESS
from store_svc.domain.queued_event import QueuedEvent
from store_svc.job_queue import hasten_jobs
from store_svc.recording import Effect
from store_svc.records import broken, time, uuid
from store_svc.repository import load_queued, lock_cameras, write_events, write_queue, write_unseen
from store_svc.times import moment

_KEEP = """
WITH kept AS (
    INSERT INTO assessments
        (id, event_id, evidence_revision, evidence_digest, request_id, score, severity, body, assessed_at,
        recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING id
)
INSERT INTO raw_answers (assessment_id, body) SELECT id, $11 FROM kept WHERE $11::bytea IS NOT NULL
"""
_KEPT = """
SELECT id, evidence_revision, evidence_digest, severity, body, request_id
FROM assessments WHERE id = ANY($1::uuid[])
"""
_FAIL = """
INSERT INTO assessment_failures
    (id, event_id, evidence_revision, evidence_digest, given_up_request_id, reason, detail, failed_at,
    recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id
"""
_GIVE_UP = "UPDATE assessment_failures SET given_up_request_id = $2 WHERE id = $1"
# What was given up stays: its request, told again, is no other one.
_FORGET = """
DELETE FROM assessment_failures WHERE event_id = $1 AND id <> $2 AND given_up_request_id IS NULL
"""
_DELETED = "SELECT id FROM tombstones WHERE kind = 'event' AND id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`row` is that of the assessment, or of the failure where `failed`, but for its time of recording.
    `request_id` is that of the request which it answers, or gives up; `raw_answer` what the model said."""

    id: UUID
    event_id: UUID
    evidence_digest: str
    request_id: UUID | None
    failed: bool
    row: tuple[object, ...]
    raw_answer: bytes | None


class AssessedRecorder:
    """The first record of an assessment's (or failure's) id wins whole. One of an unknown event is kept.

    A judgement shows that the judge works: what failed before is due again, so that everything goes in its
    order, and not as its pauses end. Each event once: one that fails by itself must not be tried at every
    success.
    """

    topic = ASSESSED

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def read(self, delivery: Delivery[EventAssessed]) -> Verdict:
        message = delivery.message
        failed = message.WhichOneof("outcome") == "failure"
        event_id = uuid(message.event_id, "event_id")
        id = uuid(message.failure.id if failed else message.assessment.id, "outcome's id")
        asked = message.failure.given_up_request_id if failed else message.assessment.request_id
        request_id = uuid(asked, "request_id") if asked else None
        head = (id, event_id, message.evidence_revision, message.evidence_digest, request_id)
        row = (*head, *(_failure(message) if failed else _assessment(message)))
        raw_answer = None if failed else raw_answer_of(message)
        return Verdict(id, event_id, message.evidence_digest, request_id, failed, row, raw_answer)

    async def write(self, connection: "asyncpg.Connection", items: Sequence[Verdict]) -> Effect:
        now = self._clock()
        names = await lock_cameras(connection, [item.event_id for item in items])
        deleted = {row["id"] for row in await connection.fetch(_DELETED, [item.event_id for item in items])}
        items = [item for item in items if item.event_id not in deleted]
        queue = await load_queued(connection, {item.event_id for item in items})
        # One that was committed since, with its camera unlocked, is as unknown as one that comes later.
        events = {id: queued for id, queued in queue.items() if queued.event.camera_id in names}
        judgements = await _keep(connection, [item for item in items if not item.failed], now)
        failures = await _keep_failures(connection, [item for item in items if item.failed], now)
        revisions = {id: queued.event.revision for id, queued in events.items()}
        changed: dict[UUID, QueuedEvent] = {}
        given_up: list[tuple[UUID, UUID]] = []
        last: dict[UUID, UUID] = {}
        judged = False
        for item in items:
            queued = events.get(item.event_id)
            if queued is None or (item.failed and item.id not in failures):
                continue
            if item.failed:
                failures.remove(item.id)  # a repetition counts once
                waited = _request_id(queued)
                matters = _fail(queued, item, now)
                if waited and not _request_id(queued):
                    given_up.append((item.id, waited))
                if matters:
                    last[item.event_id] = item.id
            else:
                matters = queued.apply_assessment(judgements[item.id])
                # What was asked for may be answered by another judge, while the usual one still fails.
                judged |= matters and not item.request_id
            if matters:
                changed[item.event_id] = queued
        if last:  # a round trip each, within the transaction: most batches have no failure
            await connection.executemany(_GIVE_UP, given_up)
            await connection.executemany(_FORGET, list(last.items()))
        await write_queue(connection, changed.values())
        hastened = judged and await hasten_jobs(connection, ASSESS, now)
        seen: list[StoredEvent] = []
        unseen: list[StoredEvent] = []
        for id, queued in changed.items():
            (seen if queued.event.revision > revisions[id] else unseen).append(queued.event)
        await write_unseen(connection, unseen)
        await write_events(connection, [], seen, names, now)
        return Effect(outbox=bool(seen), due=hastened or any(queued.job for queued in changed.values()))


def _fail(queued: QueuedEvent, failure: Verdict, now: datetime) -> bool:
    if failure.request_id:
        return queued.give_up_request(failure.id, failure.request_id)
    return queued.record_failure(failure.id, failure.evidence_digest, now)


def _request_id(queued: QueuedEvent) -> UUID | None:
    """Of the request that waits."""
    return queued.job.request.id if queued.job and queued.job.request else None


async def _keep(
    connection: "asyncpg.Connection", items: Sequence[Verdict], now: datetime
) -> dict[UUID, StoredAssessment]:
    """Writes those not there yet; what is there now, by id."""
    await connection.executemany(_KEEP, [(*item.row, now, item.raw_answer) for item in items])
    rows = await connection.fetch(_KEPT, [item.id for item in items])
    return {row["id"]: StoredAssessment(*row) for row in rows}


async def _keep_failures(
    connection: "asyncpg.Connection", items: Sequence[Verdict], now: datetime
) -> set[UUID]:
    """Writes those not there yet; their ids."""
    written = [await connection.fetchval(_FAIL, *item.row, now) for item in items]
    return {id for id in written if id is not None}


def _assessment(message: EventAssessed) -> tuple[object, ...]:
    assessment = message.assessment
    if not 0 <= assessment.score <= 100 or not assessment.severity:
        raise broken("the outcome has no score in 0..100, or no severity")
    assessed_at = moment(time(assessment.assessed_at, "assessed_at"))
    return assessment.score, assessment.severity, stored_body(assessment), assessed_at


def _failure(message: EventAssessed) -> tuple[object, ...]:
    failure = message.failure
    return failure.reason, failure.detail, moment(time(failure.failed_at, "failed_at"))
