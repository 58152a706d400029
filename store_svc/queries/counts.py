"""How much work is waiting in the store, and how quickly events are assessed."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import BigInteger, cast, func, not_, select

from lares.store.v1.event_service_pb2 import GetStoreStatusResponse
from store_svc.database import Database
from store_svc.database.statement import Statement, equals, parameter
from store_svc.database.tables import (
    TIME,
    assessments,
    camera_outbox,
    events,
    feed_head,
    feed_published,
    jobs,
    kept_outbox,
    renditions,
)
from store_svc.domain.job import ASSESS
from store_svc.domain.rendition import WAITING
from store_svc.times import stamp

PACE = timedelta(minutes=5)  # the period whose assessments tell how long the rest will take


def _counts() -> Statement:
    now, count = parameter("now", TIME), func.count
    due = (
        select(
            count().label("events"),
            count().filter(jobs.c.leased_until > now).label("leased"),
            func.min(jobs.c.waiting_since).label("oldest"),
        )
        .where(equals(jobs.c.kind, "kind"))
        .subquery("due")
    )
    recent = (assessments.c.recorded_at > parameter("since", TIME)) & (assessments.c.recorded_at <= now)
    unpublished = feed_head.c.sequence - feed_published.c.sequence
    outboxes = [
        select(count()).select_from(outbox).scalar_subquery() for outbox in (camera_outbox, kept_outbox)
    ]
    return Statement(
        select(
            select(count())
            .select_from(events)
            .where(not_(events.c.closed))
            .scalar_subquery()
            .label("open_events"),
            due.c.events.label("due_events"),
            due.c.leased.label("leased_events"),
            due.c.oldest.label("oldest_due_at"),
            (unpublished + outboxes[0] + outboxes[1]).label("outbox"),
            feed_head.c.sequence,
            select(count())
            .select_from(assessments)
            .where(recent)
            .scalar_subquery()
            .label("recently_assessed"),
            select(count())
            .select_from(renditions)
            .where(renditions.c.state == WAITING)
            .scalar_subquery()
            .label("waiting_renditions"),
            select(cast(func.coalesce(func.sum(renditions.c.size_bytes), 0), BigInteger))
            .scalar_subquery()
            .label("rendition_bytes"),
        ).select_from(feed_head, feed_published, due)
    )


_COUNTS = _counts()


async def count(database: Database, now: datetime) -> GetStoreStatusResponse:
    """Everything but the lags of the consumers, in one snapshot."""
    async with database.connection() as connection:
        row = await _COUNTS.fetch_one(connection, now=now, since=now - PACE, kind=ASSESS)
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
        waiting_renditions=row["waiting_renditions"],
        rendition_bytes=row["rendition_bytes"],
    )


def _eta(due: int, recently_assessed: int) -> Duration | None:
    """How long the due events will take at the recent pace; None if none was assessed recently. It is too
    long in the first minutes of a backlog, when the pace counts idle time, too."""
    if due and not recently_assessed:
        return None
    eta = Duration()
    eta.FromTimedelta(PACE * due / max(recently_assessed, 1))
    return eta
