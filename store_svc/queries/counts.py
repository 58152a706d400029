"""What is in flight in the store."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from lares.store.v1.event_service_pb2 import GetStoreStatusResponse
from store_svc.database import Database
from store_svc.domain.job import ASSESS
from store_svc.times import stamp

PACE = timedelta(minutes=5)  # what the pace of judging is told by

_COUNTS = """
    SELECT
        (SELECT count(*) FROM events WHERE NOT closed) AS open_events,
        due.events AS due_events, due.leased AS leased_events, due.oldest AS oldest_due_at,
        head.sequence - published.sequence + (SELECT count(*) FROM camera_outbox)
            + (SELECT count(*) FROM kept_outbox) AS outbox,
        head.sequence AS sequence,
        (SELECT count(*) FROM assessments WHERE recorded_at > $1 - $2::interval AND recorded_at <= $1)
            AS recently_assessed
    FROM feed_head head, feed_published published, (
        SELECT count(*) AS events, count(*) FILTER (WHERE leased_until > $1) AS leased,
            min(waiting_since) AS oldest
        FROM jobs WHERE kind = $3
    ) due
"""


async def count(database: Database, now: datetime) -> GetStoreStatusResponse:
    """Everything but the lags, in one snapshot."""
    async with database.session() as connection:
        row = await connection.fetchrow(_COUNTS, now, PACE, ASSESS)
    assert row is not None  # an aggregate, and tables of one row each
    oldest = row["oldest_due_at"]
    return GetStoreStatusResponse(
        open_events=row["open_events"],
        due_events=row["due_events"],
        leased_events=row["leased_events"],
        oldest_due_at=stamp(oldest) if oldest else None,
        outbox=row["outbox"],
        sequence=row["sequence"],
        recently_assessed=row["recently_assessed"],
        eta=_eta(row["due_events"], row["recently_assessed"]),
    )


def _eta(due: int, judged: int) -> Duration | None:
    """When all is judged at the pace of late, which is told too low in the first minutes of a backlog. None
    without a pace."""
    if due and not judged:
        return None
    eta = Duration()
    eta.FromTimedelta(PACE * due / max(judged, 1))
    return eta
