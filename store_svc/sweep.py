"""State changes that only the passing of time causes.

Events are closed that no frame joins any more, and jobs can be leased again whose lease has expired.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Integer, exists, not_, select, update

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.bus import Stream
from mesh.retry import retry
from store_svc.commit_signals import CommitSignals, wait
from store_svc.consumer import BACKOFF
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, one_of, parameter
from store_svc.database.tables import events
from store_svc.event_repository import load_queued, lock_cameras, write_events
from store_svc.job_queue import has_jobs, last_expiry, repair_deadlines, write_jobs
from store_svc.read_progress import ReadProgress
from store_svc.recording.recorder import Effect

CLOSED_PER_TRANSACTION = 200
SWEEP_SECONDS = 1.0
FACTS_POLL_SECONDS = 0.1

# By kind of job, how far the topic of its facts was read.
Facts = Mapping[int, ReadProgress]

_open = not_(events.c.closed)
_ANY_OPEN = Statement(select(exists().select_from(events).where(_open)))
_before = parameter("before", events.c.last_recorded_at)
_now = parameter("now", events.c.last_recorded_at)
_IDLE_PARTITIONS = Statement(
    select(events.c.partition).distinct().where(_open, events.c.last_recorded_at <= _before)
)
_CLOSABLE = Statement(
    select(events.c.id)
    .where(
        _open,
        events.c.last_recorded_at <= _before,
        one_of(events.c.partition, "partitions"),
    )
    .order_by(events.c.last_recorded_at)
    .limit(parameter("limit", Integer))
)
_in_future = events.c.last_recorded_at > parameter("latest", events.c.last_recorded_at)
_IN_FUTURE = Statement(select(events.c.id).where(_open, _in_future))
_RESET_TO_NOW = Statement(
    update(events).values(last_recorded_at=_now).where(one_of(events.c.id, "ids"), _open, _in_future)
)


class Sweep:
    """Each step is idempotent, and several processes may sweep at the same time."""

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

    async def has_work(self) -> bool:
        """Whether there is anything that the passing of time can change."""
        async with self._database.connection() as connection:
            return bool(await _ANY_OPEN.fetch_value(connection)) or await has_jobs(connection)

    async def fix_deadlines(self) -> None:
        """Resets deadlines that are further ahead than they can be, by more than a lease's length.

        They were written before the clock was set back. Those that are less wrong may be of another store,
        whose clock is a little ahead.
        """

        async def work(connection: Connection) -> None:
            now = self._clock()
            latest = now + self._lease
            if in_future := [row["id"] for row in await _IN_FUTURE.fetch(connection, latest=latest)]:
                await lock_cameras(connection, in_future)
                await _RESET_TO_NOW.execute(connection, now=now, latest=latest, ids=in_future)
            await repair_deadlines(connection, now, self._lease)

        await self._database.transaction(work)

    async def last_expiry(self, kind: int) -> datetime | None:
        """Returns the latest expiry of the expired leases whose jobs have not been leased again, or None."""
        async with self._database.connection() as connection:
            return await last_expiry(connection, kind, self._clock())

    async def idle_partitions(self) -> tuple[datetime, set[int]]:
        """Returns a time one gap ago, and the partitions with open events that no frame has joined since.

        An event may be closed only if everything that was in its partition by that time is in the store.
        """
        before = self._clock() - self._gap
        async with self._database.connection() as connection:
            rows = await _IDLE_PARTITIONS.fetch(connection, before=before)
        return before, {row["partition"] for row in rows}

    async def close(self, before: datetime, partitions: Collection[int]) -> Effect:
        """Closes the events of these partitions that no frame has joined since `before`.

        The partitions must be read as far as they were filled at `before`.
        """
        outbox = due = False
        while True:
            closed = await self._database.transaction(
                lambda connection: self._close(connection, before, partitions)
            )
            outbox |= bool(closed)
            due |= any(closed)
            if len(closed) < CLOSED_PER_TRANSACTION:
                return Effect(outbox, due)

    async def _close(
        self, connection: Connection, before: datetime, partitions: Collection[int]
    ) -> list[bool]:
        """Returns for each closed event whether it has a job."""
        found = await _CLOSABLE.fetch(
            connection, before=before, partitions=list(partitions), limit=CLOSED_PER_TRANSACTION
        )
        names = await lock_cameras(connection, [row["id"] for row in found])
        # Check again under the locks: a frame may have joined, or another process may have closed the event.
        events = (await load_queued(connection, [row["id"] for row in found])).values()
        closing = [each for each in events if not each.event.closed and each.event.last_recorded_at <= before]
        now = self._clock()
        for each in closing:
            each.close(now)
        await write_jobs(connection, [each.job for each in closing if each.job])
        await write_events(connection, [], [each.event for each in closing], names, now)
        return [each.job is not None for each in closing]


async def run_sweep(
    sweep: Sweep, detections: Stream[MediaDetected], signals: CommitSignals, facts: Facts
) -> None:
    """Lets the leasing of each kind of jobs begin once all its facts are read, then sweeps once a second
    while there is work."""
    unread = list(facts.values())
    while unread:
        left = [each for each in unread if not await retry(each.update, "read facts", backoff=BACKOFF)]
        if len(left) < len(unread):
            signals.notify(feed=False, due=True)
        if unread := left:
            await asyncio.sleep(FACTS_POLL_SECONDS)
    while True:
        upcoming = signals.feed.upcoming()  # every event that is opened has an entry
        if await retry(sweep.has_work, "sweep", backoff=BACKOFF):
            effect = await retry(lambda: sweep_once(sweep, detections, facts), "sweep", backoff=BACKOFF)
            signals.notify(feed=effect.outbox, due=effect.due)
            await asyncio.sleep(SWEEP_SECONDS)
        elif await wait(upcoming, signals.feed.patience(SWEEP_SECONDS)):
            await asyncio.sleep(SWEEP_SECONDS)  # what was just recorded is assessed first


async def sweep_once(sweep: Sweep, detections: Stream[MediaDetected], facts: Facts) -> Effect:
    """Closes the events that are due, in the partitions that are read far enough.

    Also lets jobs be leased again whose lease has expired, once all facts up to the expiry are read.
    """
    await sweep.fix_deadlines()
    leases_expired = False
    for kind, progress in facts.items():
        expired = await sweep.last_expiry(kind)
        leases_expired |= expired is not None and await facts_reached(progress, expired)
    before, partitions = await sweep.idle_partitions()
    if not partitions:
        return Effect(due=leases_expired)
    ends = await detections.ends()  # read after `before` was taken
    positions = detections.positions()
    read = {p for p in partitions if p in positions and positions[p] >= ends.get(p, 0)}
    effect = await sweep.close(before, read)
    return Effect(effect.outbox, effect.due or leases_expired)


async def facts_reached(facts: ReadProgress, expired: datetime) -> bool:
    """Returns whether this call, and no earlier one, found the facts read up to `expired`."""
    if facts.until is not None and facts.until >= expired:
        return False
    return await facts.update()
