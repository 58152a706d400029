"""The relay: what was committed goes onto store.feed.v1, store.cameras.v1 and store.kept.v1, in order, at
least once.

One relay works at a time, whoever holds the advisory lock; it reads and ticks off on the connection that
holds it, so one whose lock is lost cannot go on.
"""

import asyncio

import asyncpg
import structlog

from lares.store.v1.events_pb2 import CameraConfigured, EventChanged, MediaKept
from mesh.bus import Bus
from mesh.retry import retry
from mesh.topics import CAMERAS, FEED, KEPT
from store_svc.commit_signals import CommitSignal, wait
from store_svc.consumer import BACKOFF
from store_svc.database import Database

log = structlog.get_logger(__name__)

LOCK = 0x1A7E6
PAGE = 500
POLL_SECONDS = 0.5  # another process may have committed
STANDBY_SECONDS = 1.0
# Nobody waits for the kept media, so those of this while share a request: there are as many as photos.
KEPT_SECONDS = 1.0

_FEED = """
SELECT sequence, body FROM feed WHERE sequence > (SELECT sequence FROM feed_published)
ORDER BY sequence LIMIT $1
"""
_CAMERAS = "SELECT id, body FROM camera_outbox ORDER BY id LIMIT $1"
_KEPT = "SELECT id, body FROM kept_outbox ORDER BY id LIMIT $1"


class Outbox:
    def __init__(self, database: Database, bus: Bus, feed: CommitSignal) -> None:
        self._database = database
        self._bus = bus
        self._feed = feed
        self._kept_due = 0.0  # by the event loop's clock

    async def run(self) -> None:
        """Relays while it holds the lock, stands by while another does."""
        while True:
            await retry(self._hold, "relay the outbox", backoff=BACKOFF)
            await wait(self._feed.upcoming(), STANDBY_SECONDS)

    async def _hold(self) -> None:
        async with self._database.session() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                return
            try:
                while True:
                    upcoming = self._feed.upcoming()
                    if not await self.relay(connection):
                        await wait(upcoming, POLL_SECONDS)
            finally:
                # Not unlocked but closed: that frees the lock whatever state the connection is in.
                connection.terminate()

    async def relay(self, connection: asyncpg.Connection) -> bool:
        """Publishes a page of each, of the kept media now and then; whether there may be more. Raises
        Unavailable."""
        cameras = await connection.fetch(_CAMERAS, PAGE)
        if cameras:
            await self._bus.publish(CAMERAS, *(CameraConfigured.FromString(row["body"]) for row in cameras))
            ids = [row["id"] for row in cameras]
            await connection.execute("DELETE FROM camera_outbox WHERE id = ANY($1::bigint[])", ids)
        changes = await connection.fetch(_FEED, PAGE)
        if changes:
            await self._bus.publish(FEED, *(EventChanged.FromString(row["body"]) for row in changes))
            head = changes[-1]["sequence"]
            await connection.execute("UPDATE feed_published SET sequence = $1 WHERE sequence < $1", head)
        kept = await self._relay_kept(connection)
        return PAGE in (len(cameras), len(changes), kept)

    async def _relay_kept(self, connection: asyncpg.Connection) -> int:
        """How many were published; 0 also before they are due."""
        now = asyncio.get_running_loop().time()
        if now < self._kept_due:
            return 0
        kept = await connection.fetch(_KEPT, PAGE)
        if kept:
            await self._bus.publish(KEPT, *(MediaKept.FromString(row["body"]) for row in kept))
            ids = [row["id"] for row in kept]
            await connection.execute("DELETE FROM kept_outbox WHERE id = ANY($1::bigint[])", ids)
        if len(kept) < PAGE:
            self._kept_due = now + KEPT_SECONDS
        return len(kept)
