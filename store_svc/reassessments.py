"""Requests for another assessment of an event, optionally by another model or prompt."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, select

from lares.store.v1.event_pb2 import Event
from mesh.problems import Exhausted, NotFound
from mesh.telemetry.spans import traceparent_of
from store_svc.commit_signals import CommitSignal
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, parameter
from store_svc.database.tables import assessment_failures, assessments, jobs
from store_svc.domain.job import Request
from store_svc.event_repository import load_queued, lock_cameras, stored_event_message, write_queue

# How many requests may wait at the same time. Concurrent requests can exceed it slightly.
MAX_WAITING = 1000

_WAITING = Statement(select(func.count()).select_from(jobs).where(jobs.c.request_id.is_not(None)))
_event_id = parameter("event_id", assessments.c.event_id)
_request_id = parameter("request_id", assessments.c.request_id)
_ENDED = Statement(
    select(
        exists().where(assessments.c.event_id == _event_id, assessments.c.request_id == _request_id)
        | exists().where(
            assessment_failures.c.event_id == _event_id,
            assessment_failures.c.given_up_request_id == _request_id,
        )
    )
)


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
        event = await self._database.transaction(
            lambda connection: self._request(connection, event_id, request)
        )
        self._due.notify()
        return event

    async def _request(self, connection: Connection, event_id: UUID, request: Request) -> Event:
        names = await lock_cameras(connection, [event_id])
        queued = (await load_queued(connection, [event_id])).get(event_id)
        # An event that was inserted after its camera could have been locked is as unknown as a missing one.
        if queued is None or queued.event.camera_id not in names:
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=str(event_id))
        waiting = queued.job.request if queued.job else None
        ended = await _ENDED.fetch_value(connection, event_id=event_id, request_id=request.id)
        if not ended and (waiting is None or waiting.id != request.id):
            if waiting is None and await _WAITING.fetch_value(connection) >= MAX_WAITING:
                raise Exhausted(f"{MAX_WAITING} reassessments are already waiting", "TOO_MANY_REASSESSMENTS")
            queued.request_assessment(request, self._clock(), traceparent_of() or None)
            await write_queue(connection, [queued])
        return stored_event_message(queued.event, names[queued.event.camera_id])
