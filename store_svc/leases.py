"""The queue of events to judge: each handed out for a time, and back in the queue when its judge dies."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter

import asyncpg

from lares.store.v1.event_service_pb2 import EventLease
from store_svc import messages
from store_svc.database import Database
from store_svc.event import RETRY_MOST_SECONDS, StoredEvent
from store_svc.repository import load_events
from store_svc.snapshots import evidence_message, request_message
from store_svc.times import stamp
from store_svc.wakeups import Signal, wait

POLL_SECONDS = 0.5  # another process may have made an event due
RELEASED_SECONDS = 1.0  # how long an event rests that no judge could be reached for

# A time farther ahead than its own length is of a clock since set back: it counts as over.
_TAKE = """
    WITH due AS (
        SELECT id FROM events
        WHERE due_at IS NOT NULL AND NOT (due_at > $1 AND due_at <= $1 + $4::interval)
        AND (lease_id IS NULL OR leased_until <= $1 OR leased_until > $1 + $3::interval)
        ORDER BY priority DESC, started_at DESC LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE events SET lease_id = gen_random_uuid(), leased_until = $1 + $3::interval
    FROM due WHERE events.id = due.id
    RETURNING events.id, lease_id, leased_until, priority, started_at, coalesce(
        (SELECT display_name FROM cameras WHERE cameras.id = events.camera_id), events.camera_id
    ) AS camera_name
"""
_DETECTIONS = """
    SELECT event_id, id, label, score, box, captured_at, media_id FROM detections
    WHERE event_id = ANY($1::uuid[]) ORDER BY event_id, captured_at, score DESC, id
"""
_RENEW = """
    UPDATE events SET leased_until = $2 WHERE lease_id = ANY($1::uuid[]) AND due_at IS NOT NULL
    RETURNING lease_id
"""
_RELEASE = """
    UPDATE events SET lease_id = NULL, leased_until = NULL, due_at = $2
    WHERE lease_id = ANY($1::uuid[]) AND due_at IS NOT NULL
"""


class Leases:
    """Each due event is with one judge at a time. `ready` is set once all assessments of before the start are
    in the store: until then nothing is handed out, so nothing is judged again after a restart."""

    def __init__(
        self,
        database: Database,
        due: Signal,
        ready: asyncio.Event,
        seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._due = due
        self._ready = ready
        self._length = timedelta(seconds=seconds)
        self._clock = clock

    async def take(self, most: int, patience: float) -> list[EventLease]:
        """Due events, most urgent first, then most recent. Waits up to `patience` seconds for the first."""
        now = asyncio.get_running_loop().time
        deadline = now() + patience
        if not await wait(self._ready, patience):
            return []
        while True:
            upcoming = self._due.upcoming()
            if leases := await self._database.fast(lambda connection: self._take(connection, most)):
                return leases
            if now() >= deadline:
                return []
            await wait(upcoming, min(POLL_SECONDS, deadline - now()))

    async def _take(self, connection: asyncpg.Connection, most: int) -> list[EventLease]:
        retry = timedelta(seconds=RETRY_MOST_SECONDS)
        taken = await connection.fetch(_TAKE, self._clock(), most, self._length, retry)
        if not taken:
            return []
        # The rows are locked now, and a digest changes with its detections in one transaction: what is read
        # after the lock is what the digest was made of.
        ids = [row["id"] for row in taken]
        events = await load_events(connection, ids)
        found = await connection.fetch(_DETECTIONS, ids)
        detections = {id: list(rows) for id, rows in groupby(found, itemgetter("event_id"))}
        taken.sort(key=itemgetter("priority", "started_at"), reverse=True)
        return [_lease(row, events[row["id"]], detections.get(row["id"], [])) for row in taken]

    async def renew(self, lease_ids: Sequence[str]) -> tuple[list[str], datetime]:
        """Those still held, and until when: an event judged, or leased anew after its time, is lost."""
        until = self._clock() + self._length
        held = await self._database.fast(lambda connection: connection.fetch(_RENEW, lease_ids, until))
        return [str(row["lease_id"]) for row in held], until

    async def release(self, lease_ids: Sequence[str]) -> None:
        """Back into the queue, after a moment; no attempt is counted."""
        due_at = self._clock() + timedelta(seconds=RELEASED_SECONDS)
        await self._database.fast(lambda connection: connection.execute(_RELEASE, lease_ids, due_at))


def _lease(row: asyncpg.Record, event: StoredEvent, detections: Iterable[asyncpg.Record]) -> EventLease:
    found = map(messages.evidence_detection, detections)
    return EventLease(
        lease_id=str(row["lease_id"]),
        evidence=evidence_message(event, row["camera_name"], found),
        expires_at=stamp(row["leased_until"]),
        attempt=event.attempts + 1,
        request=request_message(event.request) if event.request else None,
    )
