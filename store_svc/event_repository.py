"""Reads and writes events and the feed, many at a time.

A transaction that changes an event locks its camera's row first (cameras in order of id), then its job, so
what this module reads stays true until the commit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, extract, func, insert, select, update
from sqlalchemy import cast as sql_cast

from lares.store.v1.event_pb2 import Event
from lares.store.v1.events_pb2 import EventChanged
from store_svc.database.statement import (
    Connection,
    Record,
    Statement,
    copy_rows,
    equals,
    one_of,
    parameter,
    unnested,
    unnested_values,
)
from store_svc.database.tables import assessments, cameras, detections, events, feed, feed_head
from store_svc.domain.assembly import EventSpan
from store_svc.domain.event import StoredEvent
from store_svc.domain.evidence import dump_history, load_history
from store_svc.domain.habits import dump_stays, load_stays
from store_svc.domain.job import ASSESS
from store_svc.domain.queued_event import QueuedEvent
from store_svc.job_queue import delete_jobs, job_of, locked_jobs, write_jobs
from store_svc.messages import event_message
from store_svc.times import micros, moment, stamp

_FIELDS = [*events.columns.keys(), "assessment"]
_CHANGING = [column.name for column in events.columns if column.name not in ("id", "camera_id", "history")]

_job = locked_jobs()
_LOAD = Statement(
    select(*events.columns, assessments.c.body.label("assessment"), *_job.c)
    .select_from(
        events.outerjoin(assessments, assessments.c.id == events.c.assessment_id).outerjoin(
            _job, _job.c.job_subject_id == events.c.id
        )
    )
    .where(one_of(events.c.id, "subject_ids"))
)
_DETECTION_IDS = Statement(
    select(detections.c.event_id, func.array_agg(detections.c.id).label("ids"))
    .where(one_of(detections.c.event_id, "event_ids"))
    .group_by(detections.c.event_id)
)
_LOCK_CAMERAS = Statement(
    select(cameras.c.id, cameras.c.display_name)
    .where(cameras.c.id.in_(select(events.c.camera_id).where(one_of(events.c.id, "event_ids"))))
    .order_by(cameras.c.id)
    .with_for_update()
)
_NEXT_SEQUENCES = Statement(
    update(feed_head)
    .values(sequence=feed_head.c.sequence + parameter("count", BigInteger))
    .returning(feed_head.c.sequence)
)
_UPDATE = Statement(
    update(events)
    .values({name: bindparam(name) for name in _CHANGING})
    .where(equals(events.c.id, "event_id"))
)

_FEED = {column.name: column for column in feed.columns}
_entry = unnested("entry", _FEED)
_WRITE_FEED = Statement(insert(feed).from_select(list(_FEED), select(*[_entry.c[name] for name in _FEED])))

_WINDOW = {
    "camera_id": events.c.camera_id,
    "earliest": events.c.started_at,
    "latest": events.c.started_at,
}
_window = unnested("window", _WINDOW)


def _micros_of(time: Any) -> Any:
    """Exact, because PostgreSQL's `extract` returns a numeric."""
    return sql_cast(extract("epoch", time) * 1_000_000, BigInteger)


_SPANS = Statement(
    select(
        events.c.id,
        events.c.camera_id,
        events.c.detection_count,
        _micros_of(events.c.started_at).label("started_at"),
        _micros_of(events.c.ended_at).label("ended_at"),
    ).join_from(
        _window,
        events,
        (events.c.camera_id == _window.c.camera_id)
        & events.c.started_at.between(_window.c.earliest, _window.c.latest)
        & (events.c.detection_count > 0),
    )
)


async def load_queued(connection: Connection, ids: Collection[UUID]) -> dict[UUID, QueuedEvent]:
    """By id, the events that exist, with their jobs, which it locks. The cameras must be locked already."""
    rows = await _LOAD.fetch(connection, kind=ASSESS, subject_ids=list(ids))
    return {row["id"]: QueuedEvent(_event(row), job_of(row)) for row in rows}


async def write_queue(connection: Connection, changed: Collection[QueuedEvent]) -> None:
    """Writes the jobs of these events, and deletes those that are done. Must precede `write_events`."""
    await write_jobs(connection, [each.job for each in changed if each.job])
    await delete_jobs(connection, ASSESS, [each.event.id for each in changed if not each.job])


async def load_detection_ids(connection: Connection, event_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """By event, the ids of its detections; events without any are left out."""
    rows = await _DETECTION_IDS.fetch(connection, event_ids=list(event_ids))
    return {row["event_id"]: row["ids"] for row in rows}


async def load_spans(
    connection: Connection, windows: Iterable[tuple[str, int, int]]
) -> dict[str, dict[UUID, EventSpan]]:
    """By camera and id, the events that started within the camera's windows: (camera id, earliest, latest),
    inclusive, in microseconds. No frame joins an event without detections, so they are left out."""
    rows = [
        {"camera_id": camera_id, "earliest": moment(earliest), "latest": moment(latest)}
        for camera_id, earliest, latest in windows
    ]
    if not rows:
        return {}
    spans: dict[str, dict[UUID, EventSpan]] = {}
    for row in await _SPANS.fetch(connection, **unnested_values("window", _WINDOW, rows)):
        span = EventSpan(row["id"], row["started_at"], row["ended_at"], row["detection_count"])
        spans.setdefault(row["camera_id"], {})[span.id] = span
    return spans


async def lock_cameras(connection: Connection, event_ids: Collection[UUID]) -> dict[str, str]:
    """Locks the cameras of these events, and returns their display names by id.

    The cameras of events that are committed after this statement are not among them.
    """
    rows = await _LOCK_CAMERAS.fetch(connection, event_ids=list(event_ids))
    return {row["id"]: row["display_name"] for row in rows}


async def write_events(
    connection: Connection,
    opened: Sequence[StoredEvent],
    changed: Sequence[StoredEvent],
    camera_names: Mapping[str, str],
    now: datetime,
) -> None:
    """Inserts the opened events, updates the changed ones, and adds a feed entry for each.

    Must come last in a transaction: it takes the feed's next sequence numbers, and the lock of the counter,
    held until the commit, puts the sequence in the order of commits, without gaps.
    """
    written = [*opened, *changed]
    if not written:
        return
    head = await _NEXT_SEQUENCES.fetch_value(connection, count=len(written))
    for sequence, event in enumerate(written, head - len(written) + 1):
        event.sequence = sequence
    rows = {event.id: _row(event) for event in written}
    new = [rows[event.id] | {"history": dump_history(event.history)} for event in opened]
    await copy_rows(connection, events, new)
    await _update(connection, [rows[event.id] for event in changed])
    entries = [
        _feed_entry(event, rows[event.id], camera_names.get(event.camera_id, event.camera_id), now)
        for event in written
    ]
    await _WRITE_FEED.execute(connection, **unnested_values("entry", _FEED, entries))


async def write_unseen(connection: Connection, changed: Sequence[StoredEvent]) -> None:
    """Updates events without an entry in the feed: nothing changed that people see."""
    await _update(connection, [_row(event) for event in changed])


def stored_event_message(event: StoredEvent, camera_name: str) -> Event:
    return event_message(_row(event), camera_name, event.assessment)


async def _update(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        values = [{"event_id": row["id"]} | {name: row[name] for name in _CHANGING} for row in rows]
        await _UPDATE.execute_many(connection, values)


def _feed_entry(
    event: StoredEvent, row: Mapping[str, object], camera_name: str, now: datetime
) -> dict[str, object]:
    message = event_message(row, camera_name, event.assessment)
    change = EventChanged(sequence=event.sequence, event=message, recorded_at=stamp(now))
    return {
        "sequence": event.sequence,
        "event_id": event.id,
        "camera_id": event.camera_id,
        "status": event.status,
        "severity": event.severity,
        "deleted": False,
        "body": change.SerializeToString(),
        "recorded_at": now,
    }


def _row(event: StoredEvent) -> dict[str, object]:
    """The event's row in the table `events`, but for its history, which never changes."""
    return {
        "id": event.id,
        "camera_id": event.camera_id,
        "partition": event.partition,
        "status": event.status,
        "revision": event.revision,
        "sequence": event.sequence,
        "started_at": moment(event.started_at),
        "ended_at": moment(event.ended_at),
        "closed": event.closed,
        "labels": sorted(event.labels),
        "detection_count": event.detection_count,
        "media_count": event.media_count,
        "most_at_once": event.most_at_once,
        "last_recorded_at": event.last_recorded_at,
        "time_zone": event.time_zone,
        "evidence_digest": event.evidence_digest,
        "evidence_revision": event.evidence_revision,
        "assessment_id": event.assessment_id,
        "assessed_digest": event.assessed_digest,
        "assessed_revision": event.assessed_revision,
        "severity": event.severity,
        "urgent_done": event.urgent_done,
        "failure_id": event.failure_id,
        "traceparent": event.traceparent,
        "zones": sorted(event.zones),
        "frozen_digest": event.frozen_digest,
        "stays": dump_stays(event.stays),
    }


def _event(row: Record) -> StoredEvent:
    """From a row of the table `events` with the `assessment` of its current assessment."""
    fields: dict[str, Any] = {name: row[name] for name in _FIELDS} | {
        "started_at": micros(row["started_at"]),
        "ended_at": micros(row["ended_at"]),
        "labels": frozenset(row["labels"]),
        "zones": frozenset(row["zones"]),
        "history": load_history(row["history"]),
        "stays": load_stays(row["stays"]),
    }
    return StoredEvent(**fields)
