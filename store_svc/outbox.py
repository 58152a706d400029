"""Publishes what was committed to store.feed.v1, store.cameras.v1 and store.kept.v1, in order, at least once.

One relay works at a time: the one that holds the advisory lock. It reads and deletes on the connection that
holds the lock, so a relay that loses its lock cannot continue.
"""

import asyncio

from sqlalchemy import Table, delete, func, literal, select, update

from lares.store.v1.events_pb2 import CameraConfigured, EventChanged, MediaKept
from mesh.bus import Bus
from mesh.retry import retry
from mesh.topics import CAMERAS, FEED, KEPT
from store_svc.commit_signals import KEPT_SECONDS, CommitSignal, wait
from store_svc.consumer import BACKOFF
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, one_of, parameter
from store_svc.database.tables import camera_outbox, feed, feed_published, kept_outbox

LOCK = 0x1A7E6
PAGE = 500
POLL_SECONDS = 0.5  # another process may have committed
STANDBY_SECONDS = 1.0

_TRY_LOCK = Statement(select(func.pg_try_advisory_lock(literal(LOCK))))
_CHANGES = Statement(
    select(feed.c.sequence, feed.c.body)
    .where(feed.c.sequence > select(feed_published.c.sequence).scalar_subquery())
    .order_by(feed.c.sequence)
    .limit(PAGE)
)
_sequence = parameter("published", feed_published.c.sequence)
_SET_PUBLISHED = Statement(
    update(feed_published).values(sequence=_sequence).where(feed_published.c.sequence < _sequence)
)


def _oldest(outbox: Table) -> Statement:
    return Statement(select(outbox.c.id, outbox.c.body).order_by(outbox.c.id).limit(PAGE))


def _deletion(outbox: Table) -> Statement:
    return Statement(delete(outbox).where(one_of(outbox.c.id, "ids")))


_CAMERAS, _DELETE_CAMERAS = _oldest(camera_outbox), _deletion(camera_outbox)
_KEPT, _DELETE_KEPT = _oldest(kept_outbox), _deletion(kept_outbox)


class OutboxRelay:
    def __init__(self, database: Database, bus: Bus, feed: CommitSignal) -> None:
        self._database = database
        self._bus = bus
        self._feed = feed
        # When kept media may be published again, by the clock of the event loop, and whether some may wait.
        self._kept_due, self._kept_waits = 0.0, False

    async def run(self) -> None:
        """Relays while it holds the lock, and waits while another process does."""
        while True:
            await retry(self._relay_while_locked, "relay the outbox", backoff=BACKOFF)
            await wait(self._feed.upcoming(), STANDBY_SECONDS)

    async def _relay_while_locked(self) -> None:
        async with self._database.connection() as connection:
            if not await _TRY_LOCK.fetch_value(connection):
                return
            try:
                while True:
                    upcoming = self._feed.upcoming()
                    if not await self.relay(connection):
                        await wait(upcoming, self._pause())
            finally:
                # Closing the connection releases the lock whatever state the connection is in.
                connection.terminate()

    def _pause(self) -> float:
        pause = self._feed.patience(POLL_SECONDS)
        until_kept = max(0.0, self._kept_due - asyncio.get_running_loop().time())
        return min(pause, until_kept) if self._kept_waits else pause

    async def relay(self, connection: Connection) -> bool:
        """Publishes a page of each topic, of kept media at most every KEPT_SECONDS. Returns whether there may
        be more. Raises Unavailable."""
        cameras = await _CAMERAS.fetch(connection)
        if cameras:
            await self._bus.publish(CAMERAS, *(CameraConfigured.FromString(row["body"]) for row in cameras))
            await _DELETE_CAMERAS.execute(connection, ids=[row["id"] for row in cameras])
        changes = await _CHANGES.fetch(connection)
        if changes:
            await self._bus.publish(FEED, *(EventChanged.FromString(row["body"]) for row in changes))
            await _SET_PUBLISHED.execute(connection, published=changes[-1]["sequence"])
        kept = await self._relay_kept(connection)
        return PAGE in (len(cameras), len(changes), kept)

    async def _relay_kept(self, connection: Connection) -> int:
        """Returns how many were published, which is 0 if they are not due yet."""
        now = asyncio.get_running_loop().time()
        self._kept_waits = now < self._kept_due
        if self._kept_waits:
            return 0
        kept = await _KEPT.fetch(connection)
        if kept:
            await self._bus.publish(KEPT, *(MediaKept.FromString(row["body"]) for row in kept))
            await _DELETE_KEPT.execute(connection, ids=[row["id"] for row in kept])
        if len(kept) < PAGE:
            self._kept_due = now + KEPT_SECONDS
        return len(kept)
