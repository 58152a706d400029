"""What the wall clock alone does: closes events that nothing joins any more, and mends its being set back."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import asyncpg

from store_svc.database import Database
from store_svc.job import ASSESS
from store_svc.job_queue import last_expiry, mend_jobs, write_jobs
from store_svc.recording import Effect
from store_svc.repository import load_queued, lock_cameras, write_events

MOST = 200  # closed in one transaction

_QUIET = "SELECT DISTINCT partition FROM events WHERE NOT closed AND last_recorded_at <= $1"
_CLOSABLE = """
SELECT id FROM events WHERE NOT closed AND last_recorded_at <= $1 AND partition = ANY($2::int[])
ORDER BY last_recorded_at LIMIT $3
"""
# A deadline farther ahead than its own length is of a clock since set back.
_AHEAD = "SELECT id FROM events WHERE NOT closed AND last_recorded_at > $1"
_MEND_CLOSING = """
UPDATE events SET last_recorded_at = $1 WHERE id = ANY($2::uuid[]) AND NOT closed AND last_recorded_at > $1
"""


class Sweep:
    """Each step is idempotent; several processes may sweep at once."""

    def __init__(
        self,
        database: Database,
        gap_seconds: float,
        lease_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._gap = timedelta(seconds=gap_seconds)
        self._lease = timedelta(seconds=lease_seconds)
        self._clock = clock

    async def mend(self) -> None:
        """Lets deadlines count from now that lie farther ahead than they can."""

        async def work(connection: asyncpg.Connection) -> None:
            now = self._clock()
            if ahead := [row["id"] for row in await connection.fetch(_AHEAD, now)]:
                await lock_cameras(connection, ahead)
                await connection.execute(_MEND_CLOSING, now, ahead)
            await mend_jobs(connection, now, self._lease)

        await self._database.fast(work)

    async def last_expiry(self) -> datetime | None:
        """When the last lease expired of those that are over and not yet granted anew."""
        async with self._database.session() as connection:
            return await last_expiry(connection, ASSESS, self._clock())

    async def quiet(self) -> tuple[datetime, set[int]]:
        """The partitions with events that had no detection for the gap before a time, and that time: what was
        in the log by then must be in the store before they may be closed."""
        before = self._clock() - self._gap
        async with self._database.session() as connection:
            return before, {row["partition"] for row in await connection.fetch(_QUIET, before)}

    async def close(self, before: datetime, read: Collection[int]) -> Effect:
        """Closes the events of these partitions, read to their ends, that had no detection since `before`."""
        outbox = due = False
        while True:
            closed = await self._database.fast(lambda connection: self._close(connection, before, read))
            outbox |= bool(closed)
            due |= any(closed)
            if len(closed) < MOST:
                return Effect(outbox, due)

    async def _close(
        self, connection: asyncpg.Connection, before: datetime, read: Collection[int]
    ) -> list[bool]:
        """For each event closed, whether it is due."""
        found = await connection.fetch(_CLOSABLE, before, list(read), MOST)
        names = await lock_cameras(connection, [row["id"] for row in found])
        # Looked at again under the locks: a detection may have joined, another sweep may have closed it.
        events = (await load_queued(connection, [row["id"] for row in found])).values()
        closing = [each for each in events if not each.event.closed and each.event.last_recorded_at <= before]
        now = self._clock()
        for each in closing:
            each.close(now)
        await write_jobs(connection, [each.job for each in closing if each.job])
        await write_events(connection, [], [each.event for each in closing], names, now)
        return [each.job is not None for each in closing]
