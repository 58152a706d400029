"""Deletes the blobs of renditions that are gone.

A transaction that removes the last reference to a blob, or learns of one that nothing will refer to, writes
it to the table `unused_blobs`; later it is deleted. So a process that is killed in between leaves nothing
behind.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Integer, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from mesh.blobs import Blobs
from mesh.identity import media_id
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, equals, one_of, parameter
from store_svc.database.tables import TIME, cameras, media, renditions, unused_blobs
from store_svc.ids import parse_uuid
from store_svc.renditions.rendition_rows import lock_digests

SHA256 = re.compile(r"[0-9a-f]{64}")

# By how much the clocks of the store and of the blobs may differ.
CLOCK_MARGIN = timedelta(seconds=10)
AT_ONCE = 100


def _add() -> Statement:
    columns = {column.name: parameter(column.name, column) for column in unused_blobs.columns}
    statement = insert(unused_blobs).values(columns)
    later = func.greatest(unused_blobs.c.put_before, statement.excluded.put_before)
    return Statement(statement.on_conflict_do_update(index_elements=["sha256"], set_={"put_before": later}))


_ADD = _add()
_DUE = Statement(
    select(unused_blobs)
    .where(unused_blobs.c.put_before <= parameter("now", TIME))
    .order_by(unused_blobs.c.put_before)
    .limit(parameter("limit", Integer))
)
_ANY = Statement(select(exists().select_from(unused_blobs)))
_CAMERA_IDS = Statement(select(cameras.c.id))
_IS_USED = Statement(
    select(
        or_(
            exists().where(equals(renditions.c.sha256, "sha256")),
            exists().where(one_of(media.c.id, "media_ids")),
        )
    )
)
_REMOVE = Statement(delete(unused_blobs).where(equals(unused_blobs.c.sha256, "sha256")))


async def add_unused_blobs(connection: Connection, recorded: Mapping[str, datetime]) -> None:
    """By digest, when the store learned that the blob had been put."""
    rows = [{"sha256": sha256, "put_before": recorded[sha256] + CLOCK_MARGIN} for sha256 in sorted(recorded)]
    if rows:
        await _ADD.execute_many(connection, rows)


class UnusedBlobs:
    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def delete(self, now: datetime) -> bool:
        """Deletes those to which nothing refers, and forgets them all. Returns whether some have to wait.
        Raises Unavailable if the blobs do not answer."""
        while True:
            async with self._database.connection() as connection:
                due = await _DUE.fetch(connection, now=now, limit=AT_ONCE)
            for row in due:
                sha256, put_before = row["sha256"], row["put_before"]
                await self._database.transaction(lambda c, s=sha256, p=put_before: self._delete(c, s, p))  # type: ignore[misc]
            if len(due) < AT_ONCE:
                async with self._database.connection() as connection:
                    return bool(await _ANY.fetch_value(connection))

    async def _delete(self, connection: Connection, sha256: str, put_before: datetime) -> None:
        """A blob that was put again since is kept, without being remembered: whoever put it refers to it, or
        will."""
        await lock_digests(connection, [sha256])
        if not await _is_used(connection, sha256):
            await self._blobs.delete(sha256, older_than=put_before)
        await _REMOVE.execute(connection, sha256=sha256)


async def _is_used(connection: Connection, sha256: str) -> bool:
    """Whether a rendition or a media has this content. The ids of media follow from their cameras and
    contents, so that media need no index of digests."""
    ids: list[UUID] = [parse_uuid(media_id(row["id"], sha256)) for row in await _CAMERA_IDS.fetch(connection)]
    return bool(await _IS_USED.fetch_value(connection, sha256=sha256, media_ids=ids))
