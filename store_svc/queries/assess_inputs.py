"""The inputs of `assess` jobs: the evidence of events, checked against its digest."""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import func, literal_column, select

from lares.reason.v1.evidence_pb2 import Evidence, PastEvent
from lares.store.internal.v1.job_service_pb2 import AssessInput
from mesh.problems import NotFound
from store_svc import messages
from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, one_of
from store_svc.database.tables import cameras, detections, events
from store_svc.domain.evidence import evidence_digest, load_history
from store_svc.domain.job import Job
from store_svc.job_queue import request_message
from store_svc.times import stamp

log = structlog.get_logger(__name__)

# One statement reads one snapshot. With two, frames could join the event in between.
_detection = detections.alias("detection")
_detections = (
    select(literal_column("detection"))  # the whole row, whose columns have names
    .select_from(_detection)
    .where(_detection.c.event_id == events.c.id)
    .order_by(_detection.c.captured_at, _detection.c.score.desc(), _detection.c.id)
    .scalar_subquery()
)
_EVIDENCE = Statement(
    select(
        events.c.id,
        events.c.camera_id,
        func.coalesce(cameras.c.display_name, events.c.camera_id).label("camera_name"),
        events.c.time_zone,
        events.c.started_at,
        events.c.ended_at,
        events.c.history,
        events.c.evidence_revision,
        events.c.evidence_digest,
        func.array(_detections).label("detections"),
    )
    .outerjoin_from(events, cameras, cameras.c.id == events.c.camera_id)
    .where(one_of(events.c.id, "event_ids"))
)


async def read_assess_inputs(connection: Connection, jobs: Sequence[Job]) -> dict[UUID, AssessInput]:
    """Returns the inputs by event.

    Leaves out, and logs, an event whose evidence does not have the digest that the event and the job have: an
    assessment of it would be stored under the wrong digest.
    """
    rows = await _EVIDENCE.fetch(connection, event_ids=[job.subject_id for job in jobs])
    found = {row["id"]: row for row in rows}
    inputs: dict[UUID, AssessInput] = {}
    for job in jobs:
        row = found.get(job.subject_id)
        if row is None or not _matches_digest(row, job):
            log.error("evidence does not match its digest, job skipped", event_id=str(job.subject_id))
            continue
        request = request_message(job.request) if job.request else None
        inputs[job.subject_id] = AssessInput(evidence=_evidence(row), request=request)
    return inputs


async def get_evidence(database: Database, event_id: str) -> Evidence:
    """The evidence of an event as it is now. Raises NotFound (EVENT_NOT_FOUND)."""
    async with database.connection() as connection:
        row = await _EVIDENCE.fetch_one(connection, event_ids=[event_id])
    if row is None:
        raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=event_id)
    return _evidence(row)


def _matches_digest(row: Record, job: Job) -> bool:
    ids = (detection["id"] for detection in row["detections"])
    computed = evidence_digest(ids, load_history(row["history"]), row["time_zone"])
    return {computed} == {job.input_digest, row["evidence_digest"]}


def _evidence(row: Record) -> Evidence:
    history = load_history(row["history"])
    return Evidence(
        event_id=str(row["id"]),
        revision=row["evidence_revision"],
        digest=row["evidence_digest"],
        camera_id=row["camera_id"],
        camera_name=row["camera_name"],
        time_zone=row["time_zone"],
        started_at=stamp(row["started_at"]),
        ended_at=stamp(row["ended_at"]),
        detections=map(messages.evidence_detection_message, row["detections"]),
        history=[PastEvent(event_id=str(p.event_id), started_at=stamp(p.started_at)) for p in history],
    )
