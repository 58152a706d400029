"""The entries of the feed, as they were written."""

from sqlalchemy import Integer, exists, func, or_, select, true

from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import Conflict, Invalid
from store_svc.database import Database
from store_svc.database.statement import Statement, parameter
from store_svc.database.tables import feed, feed_head

_after = parameter("after", feed.c.sequence)
_entry = (
    select(feed.c.sequence, feed.c.body)
    .where(feed.c.sequence > _after)
    .order_by(feed.c.sequence)
    .limit(parameter("limit", Integer))
    .lateral("entry")
)
# One snapshot, so that the head, the oldest entry and the page agree. There is a row even without an entry.
_CHANGES = Statement(
    select(
        feed_head.c.sequence.label("head"),
        select(func.min(feed.c.sequence)).scalar_subquery().label("oldest"),
        exists().where(or_(feed.c.sequence == _after, feed.c.sequence == _after + 1)).label("joined"),
        _entry.c.body,
    )
    .select_from(feed_head.outerjoin(_entry, true()))
    .order_by(_entry.c.sequence)
)


async def list_changes(database: Database, after: int, limit: int) -> tuple[list[EventChanged], int]:
    """Up to `limit` entries with a sequence greater than `after`, in order, and the head of the feed. An
    `after` of 0 begins with the oldest entry. Raises Invalid (CURSOR_BEYOND_HEAD), and Conflict
    (CURSOR_EXPIRED) if the feed no longer has all entries after `after`, or `after` is from before a backup
    was restored and the backup does not have it."""
    async with database.connection() as connection:
        rows = await _CHANGES.fetch(connection, after=after, limit=limit)
    head: int = rows[0]["head"]
    oldest: int = head + 1 if rows[0]["oldest"] is None else rows[0]["oldest"]
    if after > head:
        raise Invalid("this cursor lies beyond the feed's head", "CURSOR_BEYOND_HEAD", head=str(head))
    # Sequences have one gap for each restored backup (store_svc.restored), from what the backup has to what
    # was recorded since. A cursor inside it was given out by a Lares that is lost.
    if 0 < after < head and not rows[0]["joined"]:
        why = "is older than what is kept" if after < oldest else "is of changes that were lost"
        raise Conflict(f"this cursor {why}", "CURSOR_EXPIRED", oldest=str(oldest))
    return [EventChanged.FromString(row["body"]) for row in rows if row["body"] is not None], head
