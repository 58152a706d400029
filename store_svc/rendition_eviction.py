"""Keeps the renditions within their bound: those that were not used for longest go first."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import BigInteger, delete, func, select

from mesh.retry import retry
from store_svc.commit_signals import CommitSignal, wait
from store_svc.consumer import BACKOFF
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, one_of, parameter
from store_svc.database.tables import TIME, renditions
from store_svc.domain.rendition import FAILED, FAILED_KEPT, READY
from store_svc.renditions.unused_blobs import UnusedBlobs, add_unused_blobs

# How often to look without a signal, and while blobs wait to be deleted.
IDLE_SECONDS, WAITING_SECONDS = 60.0, 5.0


def _excess() -> Statement:
    """All but the latest that, together with those used later, exceed the bound."""
    latest_first = renditions.c.last_used_at.desc(), renditions.c.id
    ranked = (
        select(
            renditions.c.id,
            func.sum(renditions.c.size_bytes).over(order_by=latest_first, rows=(None, 0)).label("bytes"),
            func.row_number().over(order_by=latest_first).label("rank"),
        )
        .where(renditions.c.state == READY)
        .subquery("ranked")
    )
    return Statement(
        select(ranked.c.id).where(ranked.c.bytes > parameter("most_bytes", BigInteger), ranked.c.rank > 1)
    )


_EXCESS = _excess()
_LOCK = Statement(
    select(renditions.c.id, renditions.c.sha256, renditions.c.recorded_at)
    .where(one_of(renditions.c.id, "ids"))
    .order_by(renditions.c.id)
    .with_for_update(skip_locked=True)
)
_DELETE = Statement(delete(renditions).where(one_of(renditions.c.id, "ids")))
_FORGET_FAILED = Statement(
    delete(renditions).where(
        renditions.c.state == FAILED, renditions.c.recorded_at <= parameter("recorded_before", TIME)
    )
)


class RenditionEviction:
    def __init__(
        self, database: Database, unused: UnusedBlobs, most_bytes: int, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._unused = unused
        self._most_bytes = most_bytes
        self._clock = clock

    async def evict(self) -> bool:
        """Removes renditions that exceed the bound, the latest excepted, however large; then their blobs; and
        forgets those that were given up some time ago. Returns whether blobs have to wait to be deleted."""
        await self._database.transaction(self._evict)
        return await self._unused.delete(self._clock())

    async def _evict(self, connection: Connection) -> None:
        await _FORGET_FAILED.execute(connection, recorded_before=self._clock() - FAILED_KEPT)
        excess = [row["id"] for row in await _EXCESS.fetch(connection, most_bytes=self._most_bytes)]
        if not excess:
            return
        gone = await _LOCK.fetch(connection, ids=excess)
        await _DELETE.execute(connection, ids=[row["id"] for row in gone])
        await add_unused_blobs(connection, {row["sha256"]: row["recorded_at"] for row in gone})


async def run_eviction(eviction: RenditionEviction, rendered: CommitSignal) -> None:
    while True:
        upcoming = rendered.upcoming()
        blobs_wait = await retry(eviction.evict, "evict renditions", backoff=BACKOFF)
        await wait(upcoming, WAITING_SECONDS if blobs_wait else IDLE_SECONDS)
