"""Requests for another assessment of an event, optionally by another model or prompt."""

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

# How many requests may wait at the same time. Concurrent requests can exceed it slightly.
MAX_WAITING = 1000

_WAITING = "SELECT count(*) FROM jobs WHERE request_id IS NOT NULL"
_ENDED = """
SELECT EXISTS (SELECT FROM assessments WHERE event_id = $1 AND request_id = $2)
    OR EXISTS (SELECT FROM assessment_failures WHERE event_id = $1 AND given_up_request_id = $2)
"""


class Reassessments:
    """Adds requests to the events' jobs.

    A requested job is leased before all others, until its first failure. A request ends with the assessment
    that answers it, when it is given up, or when a newer request replaces it. Clients see no change of the
    event until then, so a request has no entry in the feed.
    """

    def __init__(self, database: Database, due: CommitSignal, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._due = due
        self._clock = clock

    async def request(self, event_id: UUID, request: Request) -> Event:
        """Adds a request, and returns the event as it is now.

        A repeated request has no effect, even if it differs or has ended since. Raises NotFound
        (EVENT_NOT_FOUND), and Exhausted (TOO_MANY_REASSESSMENTS) while MAX_WAITING requests wait.
        """
        event = await self._database.fast(lambda connection: self._request(connection, event_id, request))
        self._due.notify()
        return event

    async def _request(self, connection: asyncpg.Connection, event_id: UUID, request: Request) -> Event:
        names = await lock_cameras(connection, [event_id])
        queued = (await load_queued(connection, [event_id])).get(event_id)
        if (
            queued is None or queued.event.camera_id not in names
        ):  # inserted since, so its camera is not locked
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=str(event_id))
        waiting = queued.job.request if queued.job else None
        ended = await connection.fetchval(_ENDED, event_id, request.id)
        if not ended and (waiting is None or waiting.id != request.id):
            if waiting is None and await connection.fetchval(_WAITING) >= MAX_WAITING:
                raise Exhausted(f"{MAX_WAITING} reassessments are already waiting", "TOO_MANY_REASSESSMENTS")
            queued.request_assessment(request, self._clock(), traceparent_of() or None)
            await write_queue(connection, [queued])
        event = queued.event
        return event_message(event, names[event.camera_id])
