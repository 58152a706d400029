"""The event rows and the feed, below SQLAlchemy: loaded and written many at a time.

Whoever changes an event locks its camera's row first (cameras in id order), then its job: what is read here
stays true until the commit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from lares.store.v1.events_pb2 import EventChanged
from store_svc.domain.assembly import EventSpan
from store_svc.domain.event import StoredEvent
from store_svc.domain.evidence import dump_history, load_history
from store_svc.domain.job import ASSESS
from store_svc.domain.queued_event import QueuedEvent
from store_svc.job_queue import delete_jobs, lock_jobs, write_jobs
from store_svc.snapshots import event_message
from store_svc.tables import events, feed
from store_svc.times import micros, moment, stamp

# What `_row` gives, in its order, and what `_values` gives.
_FIXED = ["id", "camera_id", "history"]
_CHANGING = [column.name for column in events.columns if column.name not in _FIXED]
_PLAIN = ["id", "camera_id", *_CHANGING]
_UPDATE = f"""
UPDATE events SET {", ".join(f"{name} = ${n}" for n, name in enumerate(_CHANGING, 2))} WHERE id = $1
"""  # noqa: S608


async def load_events(connection: "asyncpg.Connection", ids: Collection[UUID]) -> dict[UUID, StoredEvent]:
    """Those that exist."""
    rows = await connection.fetch(
        "SELECT e.*, a.body AS assessment FROM events e LEFT JOIN assessments a ON a.id = e.assessment_id"
        " WHERE e.id = ANY($1::uuid[])",
        list(ids),
    )
    return {row["id"]: _event(row) for row in rows}


async def load_queued(connection: "asyncpg.Connection", ids: Collection[UUID]) -> dict[UUID, QueuedEvent]:
    """Those that exist, with their jobs, which are locked. Their cameras must be."""
    jobs = await lock_jobs(connection, ASSESS, ids)
    loaded = await load_events(connection, ids)
    return {id: QueuedEvent(event, jobs.get(id)) for id, event in loaded.items()}


async def write_queue(connection: "asyncpg.Connection", changed: Collection[QueuedEvent]) -> None:
    """Writes the jobs of these events, and deletes those that are done. Call it before `write_events`."""
    await write_jobs(connection, [each.job for each in changed if each.job])
    await delete_jobs(connection, ASSESS, [each.event.id for each in changed if not each.job])


async def load_detection_ids(
    connection: "asyncpg.Connection", event_ids: Collection[UUID]
) -> dict[UUID, list[UUID]]:
    rows = await connection.fetch(
        "SELECT event_id, array_agg(id) AS ids FROM detections WHERE event_id = ANY($1::uuid[]) GROUP BY 1",
        list(event_ids),
    )
    return {row["event_id"]: row["ids"] for row in rows}


async def load_spans(
    connection: "asyncpg.Connection", windows: Iterable[tuple[str, int, int]]
) -> dict[str, dict[UUID, EventSpan]]:
    """By camera and id, the events started within its windows (camera, from, to: microseconds, inclusive)."""
    listed = list(windows)
    if not listed:
        return {}
    rows = await connection.fetch(
        "SELECT e.id, e.camera_id, e.detection_count,"
        " (extract(epoch FROM e.started_at) * 1000000)::bigint,"  # numeric, so exact
        " (extract(epoch FROM e.ended_at) * 1000000)::bigint"
        " FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS w(camera_id, earliest, latest)"
        " JOIN events e ON e.camera_id = w.camera_id AND e.started_at BETWEEN w.earliest AND w.latest",
        [camera for camera, _, _ in listed],
        [moment(earliest) for _, earliest, _ in listed],
        [moment(latest) for _, _, latest in listed],
    )
    spans: dict[str, dict[UUID, EventSpan]] = {}
    for id, camera, count, started_at, ended_at in rows:
        spans.setdefault(camera, {})[id] = EventSpan(id, started_at, ended_at, count)
    return spans


async def lock_cameras(connection: "asyncpg.Connection", event_ids: Collection[UUID]) -> dict[str, str]:
    """Locks the cameras of these events; their names. An event that is committed afterwards, while the log is
    read from its beginning, may have a camera that is not among them."""
    rows = await connection.fetch(
        "SELECT id, display_name FROM cameras WHERE id IN"
        " (SELECT camera_id FROM events WHERE id = ANY($1::uuid[])) ORDER BY id FOR UPDATE",
        list(event_ids),
    )
    return {row["id"]: row["display_name"] for row in rows}


async def write_events(
    connection: "asyncpg.Connection",
    opened: Sequence[StoredEvent],
    changed: Sequence[StoredEvent],
    camera_names: Mapping[str, str],
    now: datetime,
) -> None:
    """Writes the events, and a feed entry of each. Call it last: it takes the feed's next sequence numbers,
    and that lock, held until the commit, makes sequence order commit order, without gaps."""
    written = [*opened, *changed]
    if not written:
        return
    head = await connection.fetchval(
        "UPDATE feed_head SET sequence = sequence + $1 RETURNING sequence", len(written)
    )
    for sequence, event in enumerate(written, head - len(written) + 1):
        event.sequence = sequence
    if opened:
        await connection.copy_records_to_table(
            "events", records=map(_row, opened), columns=_FIXED + _CHANGING
        )
    if changed:
        await connection.executemany(_UPDATE, [_change(event) for event in changed])
    entries = [_entry(event, camera_names.get(event.camera_id, event.camera_id), now) for event in written]
    await connection.copy_records_to_table("feed", records=entries, columns=feed.columns.keys())


async def write_unseen(connection: "asyncpg.Connection", changed: Sequence[StoredEvent]) -> None:
    """Writes events of which nothing changed that people see: without an entry in the feed."""
    if changed:
        await connection.executemany(_UPDATE, [_change(event) for event in changed])


def _entry(event: StoredEvent, camera_name: str, now: datetime) -> tuple[object, ...]:
    snapshot = event_message(event, camera_name)
    change = EventChanged(sequence=event.sequence, event=snapshot, recorded_at=stamp(now))
    body = change.SerializeToString()
    return event.sequence, event.id, event.camera_id, event.status, event.severity, False, body, now


def _row(event: StoredEvent) -> tuple[object, ...]:
    return event.id, event.camera_id, dump_history(event.history), *_values(event)


def _change(event: StoredEvent) -> tuple[object, ...]:
    return event.id, *_values(event)


def _values(event: StoredEvent) -> tuple[object, ...]:
    return (
        event.partition,
        event.status,
        event.revision,
        event.sequence,
        moment(event.started_at),
        moment(event.ended_at),
        event.closed,
        sorted(event.labels),
        event.detection_count,
        event.media_count,
        event.last_recorded_at,
        event.time_zone,
        event.evidence_digest,
        event.evidence_revision,
        event.assessment_id,
        event.assessed_digest,
        event.assessed_revision,
        event.severity,
        event.urgent_done,
        event.failure_id,
        event.traceparent,
    )


def _event(row: "asyncpg.Record") -> StoredEvent:
    fields: dict[str, Any] = {name: row[name] for name in _PLAIN}
    fields |= {
        "started_at": micros(row["started_at"]),
        "ended_at": micros(row["ended_at"]),
        "labels": frozenset(row["labels"]),
        "history": load_history(row["history"]),
        "assessment": row["assessment"],
    }
    return StoredEvent(**fields)
