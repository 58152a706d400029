"""Makes a database that was restored from a backup fit for what happens after it.

Such a database knows nothing of what was recorded after its backup, but others do: subscribers have cursors
of changes that it does not have, and Kafka may have been lost or made anew.
"""

from sqlalchemy import delete, func, literal, select, update

from mesh.problems import Conflict
from store_svc.camera_repository import announce_camera
from store_svc.database import open_database
from store_svc.database.connector import Connector
from store_svc.database.statement import Connection, Statement
from store_svc.database.tables import cameras, feed_head, feed_published, offsets
from store_svc.domain.camera import StoredCamera
from store_svc.outbox import LOCK

# More changes than were ever made between a backup and its restore: their sequences are not given out again.
LOST_SEQUENCES = 1_000_000_000

_TRY_LOCK = Statement(select(func.pg_try_advisory_xact_lock(literal(LOCK))))
_CAMERAS = Statement(select(cameras).order_by(cameras.c.id).with_for_update())
_SKIP_LOST = Statement(update(feed_head).values(sequence=feed_head.c.sequence + LOST_SEQUENCES))
# Nobody follows the new topic yet: who needs what is before the gap reads it from the store.
_SKIP_PUBLISHED = Statement(
    update(feed_published).values(sequence=select(feed_head.c.sequence).scalar_subquery())
)
_FORGET_OFFSETS = Statement(delete(offsets))


async def prepare_restored(connector: Connector, *, new_topics: bool) -> None:
    """Publishes every camera again, and continues the feed with sequences that were never given out, so that
    a cursor of a lost change is recognised. With `new_topics` the topics are read from their beginning;
    without it on from the backup's offsets, so that what Kafka still has is recorded again.

    The schema must be the newest. Raises Conflict STORE_RUNS while a store uses the database.
    """

    async def work(connection: Connection) -> None:
        # The lock of the outbox's relay: every database in use has one.
        if not await _TRY_LOCK.fetch_value(connection):
            raise Conflict("a store uses this database: stop all stores first", "STORE_RUNS")
        for row in await _CAMERAS.fetch(connection):
            await announce_camera(connection, StoredCamera(**row))
        await _SKIP_LOST.execute(connection)
        await _SKIP_PUBLISHED.execute(connection)
        if new_topics:
            await _FORGET_OFFSETS.execute(connection)

    async with open_database(connector) as database:
        await database.transaction(work)
