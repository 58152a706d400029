"""What people ask for again: another judgement of an event, perhaps by another model or prompt."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import asyncpg

from lares.store.v1.event_pb2 import Event
from mesh.problems import Exhausted, NotFound
from mesh.telemetry.spans import traceparent_of
from store_svc.commit_signals import CommitSignal
from store_svc.database import Database
from store_svc.domain.job import Request
from store_svc.repository import load_queued, lock_cameras, write_queue
from store_svc.snapshots import event_message

MOST = 1000  # requests that wait at the same time, give or take those who ask in this moment

_WAITING = "SELECT count(*) FROM jobs WHERE request_id IS NOT NULL"
_ENDED = """
SELECT EXISTS (SELECT FROM assessments WHERE event_id = $1 AND request_id = $2)
    OR EXISTS (SELECT FROM assessment_failures WHERE event_id = $1 AND given_up_request_id = $2)
"""


class Reassessments:
    """A request waits with its event, which goes before all others in the queue until its first failure. It
    ends with the assessment that answers it, when it is given up, or when a newer one replaces it. It changes
    nothing that people see, so it is no entry of the feed."""

    def __init__(self, database: Database, due: CommitSignal, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._due = due
        self._clock = clock

    async def request(self, event_id: UUID, request: Request) -> Event:
        """The event as it is now. The same request again, though it was answered or given up since, is no
        other one, and the wishes of the first count. Raises NotFound EVENT_NOT_FOUND, and Exhausted
        TOO_MANY_REASSESSMENTS while as many wait as may."""
        event = await self._database.fast(lambda connection: self._request(connection, event_id, request))
        self._due.notify()
        return event

    async def _request(self, connection: asyncpg.Connection, event_id: UUID, request: Request) -> Event:
        names = await lock_cameras(connection, [event_id])
        queued = (await load_queued(connection, [event_id])).get(event_id)
        if queued is None or queued.event.camera_id not in names:  # committed since: its camera is not locked
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=str(event_id))
        waiting = queued.job.request if queued.job else None
        ended = await connection.fetchval(_ENDED, event_id, request.id)
        if not ended and (waiting is None or waiting.id != request.id):
            if waiting is None and await connection.fetchval(_WAITING) >= MOST:
                raise Exhausted(f"{MOST} reassessments wait for the judge already", "TOO_MANY_REASSESSMENTS")
            queued.request_assessment(request, self._clock(), traceparent_of() or None)
            await write_queue(connection, [queued])
        event = queued.event
        return event_message(event, names[event.camera_id])
