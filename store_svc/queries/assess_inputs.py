"""The inputs of `assess` jobs: the evidence of events, checked against its digest."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from lares.store.internal.v1.job_service_pb2 import AssessInput
from store_svc.database.statement import Connection
from store_svc.domain.job import Job
from store_svc.job_queue import request_message
from store_svc.queries.evidence import EvidenceReader

log = structlog.get_logger(__name__)


class AssessInputs:
    def __init__(self, reader: EvidenceReader) -> None:
        self._reader = reader

    async def read(self, connection: Connection, jobs: Sequence[Job]) -> dict[UUID, AssessInput]:
        """Returns the inputs by event.

        Leaves out, and logs, an event whose evidence does not have the digest that the event and the job
        have: an assessment of it would be stored under the wrong digest.
        """
        found = await self._reader.load(connection, [job.subject_id for job in jobs])
        inputs: dict[UUID, AssessInput] = {}
        for job in jobs:
            stored = found.get(job.subject_id)
            if stored is None or {stored.computed_digest} != {job.input_digest, stored.digest}:
                log.error("evidence does not match its digest, job skipped", event_id=str(job.subject_id))
                continue
            evidence = await self._reader.message(connection, stored)
            request = request_message(job.request) if job.request else None
            inputs[job.subject_id] = AssessInput(evidence=evidence, request=request)
        return inputs
