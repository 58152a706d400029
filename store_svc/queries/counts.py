"""What is in flight in the store."""

from datetime import datetime

from lares.store.v1.event_service_pb2 import GetStoreStatusResponse
from store_svc.database import Database
from store_svc.times import stamp

_COUNTS = """
    SELECT
        (SELECT count(*) FROM events WHERE NOT closed) AS open_events,
        due.events AS due_events, due.leased AS leased_events, due.oldest AS oldest_due_at,
        head.sequence - published.sequence + (SELECT count(*) FROM camera_outbox) AS outbox,
        head.sequence AS sequence
    FROM feed_head head, feed_published published, (
        SELECT count(*) AS events, count(*) FILTER (WHERE leased_until > $1) AS leased, min(due_at) AS oldest
        FROM events WHERE due_at IS NOT NULL
    ) due
"""


async def count(database: Database, now: datetime) -> GetStoreStatusResponse:
    """Everything but the lags, in one snapshot."""
    async with database.session() as connection:
        row = await connection.fetchrow(_COUNTS, now)
    assert row is not None  # an aggregate, and tables of one row each
    oldest = row["oldest_due_at"]
    return GetStoreStatusResponse(
        open_events=row["open_events"],
        due_events=row["due_events"],
        leased_events=row["leased_events"],
        oldest_due_at=stamp(oldest) if oldest else None,
        outbox=row["outbox"],
        sequence=row["sequence"],
    )
