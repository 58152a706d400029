"""Reads and writes the table `renditions` and the jobs of renditions.

A transaction locks digests first (in ascending order), then renditions (by id), then their jobs.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Text, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from lares.detect.v1.events_pb2 import RenderedBlob, RenderFailure
from store_svc.database.statement import Connection, Record, Statement, one_of, parameter
from store_svc.database.tables import renditions
from store_svc.domain.job import RENDER
from store_svc.domain.rendition import QueuedRendition, StoredRendition
from store_svc.job_queue import delete_jobs, job_of, locked_jobs, write_jobs

# The first key of the advisory locks on digests of blobs.
DIGEST_LOCKS = 0x1A7E7

_COLUMNS = [column.name for column in renditions.columns]
_FIELDS = [name for name in _COLUMNS if name not in ("blob", "failure", "sha256", "size_bytes")]

_LOCK = Statement(
    select(renditions).where(one_of(renditions.c.id, "ids")).order_by(renditions.c.id).with_for_update()
)
_LOCK_JOBS = Statement(select(locked_jobs()))
_LOCK_DIGEST = Statement(
    select(func.pg_advisory_xact_lock(literal(DIGEST_LOCKS), func.hashtext(parameter("sha256", Text))))
)


def _write() -> Statement:
    statement = insert(renditions).values({name: parameter(name, renditions.c[name]) for name in _COLUMNS})
    replaced = {name: statement.excluded[name] for name in _COLUMNS if name != "id"}
    return Statement(statement.on_conflict_do_update(index_elements=["id"], set_=replaced))


_WRITE = _write()


async def lock_digests(connection: Connection, digests: Iterable[str]) -> None:
    """Until the commit, nobody else refers to the blobs with these digests anew, or deletes them."""
    for sha256 in sorted(set(digests)):
        await _LOCK_DIGEST.execute(connection, sha256=sha256)


async def lock_renditions(connection: Connection, ids: Collection[UUID]) -> dict[UUID, QueuedRendition]:
    """By id, those that exist, with their jobs; locks both."""
    rows = await _LOCK.fetch(connection, ids=list(ids))
    locked = await _LOCK_JOBS.fetch(connection, kind=RENDER, subject_ids=[row["id"] for row in rows])
    jobs = {job.subject_id: job for row in locked if (job := job_of(row))}
    return {row["id"]: QueuedRendition(stored_rendition(row), jobs.get(row["id"])) for row in rows}


async def write_renditions(connection: Connection, written: Sequence[QueuedRendition]) -> None:
    """Inserts or replaces them with their jobs, and deletes the jobs of those that no longer wait. Each must
    be locked, or be new."""
    if not written:
        return
    ordered = sorted(written, key=lambda each: each.rendition.id)
    await _WRITE.execute_many(connection, [_row(each.rendition) for each in ordered])
    await write_jobs(connection, [each.job for each in ordered if each.job])
    await delete_jobs(connection, RENDER, [each.rendition.id for each in ordered if not each.job])


def stored_rendition(row: Record) -> StoredRendition:
    fields: dict[str, Any] = {name: row[name] for name in _FIELDS}
    blob, failure = row["blob"], row["failure"]
    return StoredRendition(
        **fields,
        blob=None if blob is None else RenderedBlob.FromString(blob),
        failure=None if failure is None else RenderFailure.FromString(failure),
    )


def _row(rendition: StoredRendition) -> dict[str, object]:
    blob, failure = rendition.blob, rendition.failure
    return {name: getattr(rendition, name) for name in _FIELDS} | {
        "sha256": blob.sha256 if blob else None,
        "size_bytes": blob.size_bytes if blob else 0,
        "blob": blob.SerializeToString() if blob else None,
        "failure": failure.SerializeToString() if failure else None,
    }
