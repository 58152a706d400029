"""The feed's entries, as they were written."""

from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import Conflict, Invalid
from store_svc.database import Database

# One snapshot: the head, the oldest kept and the entries fit together.
_CHANGES = """
    SELECT head.sequence AS head, (SELECT min(sequence) FROM feed) AS oldest, entry.body
    FROM feed_head head
    LEFT JOIN LATERAL (
        SELECT sequence, body FROM feed WHERE sequence > $1 ORDER BY sequence LIMIT $2
    ) entry ON true
    ORDER BY entry.sequence
"""


async def list_changes(database: Database, after: int, limit: int) -> tuple[list[EventChanged], int]:
    """Up to `limit` entries with a sequence beyond `after`, in order, and the head. 0 is before the oldest
    kept. Raises Invalid CURSOR_BEYOND_HEAD, and Conflict CURSOR_EXPIRED where entries in between are gone."""
    async with database.session() as connection:
        rows = await connection.fetch(_CHANGES, after, limit)
    head: int = rows[0]["head"]
    oldest: int = head + 1 if rows[0]["oldest"] is None else rows[0]["oldest"]
    if after > head:
        raise Invalid("this cursor lies beyond the feed's head", "CURSOR_BEYOND_HEAD", head=str(head))
    if 0 < after < oldest - 1:
        raise Conflict("this cursor is older than what is kept", "CURSOR_EXPIRED", oldest=str(oldest))
    return [EventChanged.FromString(row["body"]) for row in rows if row["body"] is not None], head
