"""The inputs of `assess` jobs: the evidence of events, checked against its digest."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog

from lares.reason.v1.evidence_pb2 import Evidence, PastEvent
from lares.store.internal.v1.job_service_pb2 import AssessInput
from store_svc import messages
from store_svc.domain.evidence import evidence_digest, load_history
from store_svc.domain.job import Job
from store_svc.job_queue import request_message
from store_svc.times import stamp

log = structlog.get_logger(__name__)

# One statement reads one snapshot. With two, frames could join the event in between.
_EVIDENCE = """
    SELECT e.id, e.camera_id, coalesce(c.display_name, e.camera_id) AS camera_name, e.time_zone, e.started_at,
        e.ended_at, e.history, e.evidence_revision, e.evidence_digest,
        ARRAY(
            SELECT d FROM detections d WHERE d.event_id = e.id ORDER BY d.captured_at, d.score DESC, d.id
        ) AS detections
    FROM events e LEFT JOIN cameras c ON c.id = e.camera_id WHERE e.id = ANY($1::uuid[])
"""


async def read_assess_inputs(
    connection: "asyncpg.Connection", jobs: Sequence[Job]
) -> dict[UUID, AssessInput]:
    """Returns the inputs by event.

    Leaves out, and logs, an event whose evidence does not have the digest that the event and the job have: an
    assessment of it would be stored under the wrong digest.
    """
    rows = await connection.fetch(_EVIDENCE, [job.subject_id for job in jobs])
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


def _matches_digest(row: "asyncpg.Record", job: Job) -> bool:
    ids = (detection["id"] for detection in row["detections"])
    computed = evidence_digest(ids, load_history(row["history"]), row["time_zone"])
    return {computed} == {job.input_digest, row["evidence_digest"]}


def _evidence(row: "asyncpg.Record") -> Evidence:
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
        detections=map(messages.evidence_detection, row["detections"]),
        history=[PastEvent(event_id=str(p.event_id), started_at=stamp(p.started_at)) for p in history],
    )
