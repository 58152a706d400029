"""Rows of the store's database, with defaults for the columns that a test does not set."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import JSONB

from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_pb2 import Event
from lares.store.v1.events_pb2 import EventChanged
from store_svc.database import Connection, Database, open_database, tables
from store_svc.database.statement import copy_rows
from store_svc.domain.event import ASSESSED, FAILED, PENDING
from store_svc.domain.evidence import digest_v1
from store_svc.domain.job import ASSESS
from store_svc.migration import migrate
from store_svc.times import stamp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SEVERITIES = {1: 10, 2: 40, 3: 70, 4: 95}  # reason.v1.Severity -> a score of it

Row = dict[str, Any]


@asynccontextmanager
async def open_store_database(url: str) -> AsyncIterator[Database]:
    """The store's database with its tables made."""
    await migrate(url)
    async with open_database(url) as database:
        yield database


async def write(database: Database, table: Table, *rows: Row) -> None:
    """Inserts rows, which must all name the same columns."""
    json_columns = {column.name for column in table.columns if isinstance(column.type, JSONB)}

    async def work(connection: Connection) -> None:
        await copy_rows(
            connection,
            table,
            [row | {name: json.dumps(row[name]) for name in json_columns & row.keys()} for row in rows],
        )

    await database.transaction(work)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def camera_row(id: str, **changes: Any) -> Row:
    return {
        "id": id,
        "display_name": id.title(),
        "time_zone": "",
        "enabled": True,
        "thresholds": {},
        "revision": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "deleted_at": None,
    } | changes


def media_row(**changes: Any) -> Row:
    return {
        "id": uuid4(),
        "camera_id": "front",
        "camera_name": "Front",
        "sha256": "ab" * 32,
        "size_bytes": 1000,
        "type": 1,
        "width": 1920,
        "height": 1080,
        "captured_at": NOON,
        "captured_at_source": 3,
        "claimed_captured_at": None,
        "ingested_at": at(1),
        "detected_at": at(2),
        "detector": "test@0",
        "detection_count": 0,
        "path": None,
        "file_size_bytes": None,
        "mtime_ns": None,
        "ctime_ns": None,
        "inode": None,
        "recorded_at": at(3),
        "clip": None,
        "poster_frame": 0,
    } | changes


def detection_row(**changes: Any) -> Row:
    return {
        "id": uuid4(),
        "media_id": uuid4(),
        "event_id": uuid4(),
        "camera_id": "front",
        "frame": 0,
        "label": "person",
        "score": 0.5,
        "box": [0.25, 0.25, 0.5, 0.75],
        "captured_at": NOON,
    } | changes


def event_row(**changes: Any) -> Row:
    row: Row = {
        "id": uuid4(),
        "camera_id": "front",
        "partition": 0,
        "status": PENDING,
        "revision": 1,
        "sequence": 1,
        "started_at": NOON,
        "closed": False,
        "labels": ["person"],
        "detection_count": 1,
        "media_count": 1,
        "last_recorded_at": NOON,
        "history": [],
        "time_zone": "UTC",
        "evidence_digest": digest_v1([], (), "UTC"),
        "evidence_revision": 1,
        "assessment_id": None,
        "assessed_digest": None,
        "assessed_revision": 0,
        "severity": None,
        "urgent_done": False,
        "failure_id": None,
    } | changes
    return {"ended_at": row["started_at"]} | row


def job_row(event: Row, **changes: Any) -> Row:
    """Its `assess` job, due since noon."""
    row = {
        "kind": ASSESS,
        "subject_id": event["id"],
        "camera_id": event["camera_id"],
        "priority": 0,
        "rank_time": event["started_at"],
        "due_at": NOON,
        "attempts": 0,
        "failed": event["status"] == FAILED,
        "hastened": False,
        "input_digest": event["evidence_digest"],
        "request_id": None,
        "request": None,
        "lease_id": None,
        "leased_until": None,
    } | changes
    return {"waiting_since": row["due_at"]} | row


def due_rows(**changes: Any) -> tuple[Row, Row]:
    """An event that waits to be assessed: (row of events, row of jobs). Each takes the changes it knows."""
    of_event = {name: value for name, value in changes.items() if name in tables.events.columns}
    event = event_row(**({"closed": True} | of_event))
    of_job = {name: value for name, value in changes.items() if name not in tables.events.columns}
    return event, job_row(event, **of_job)


def assessed_rows(severity: int, **changes: Any) -> tuple[Row, Row]:
    """An event with a current assessment of that severity: (row of events, row of assessments)."""
    id = uuid4()
    event = event_row(
        **({"status": ASSESSED, "severity": severity, "assessment_id": id, "closed": True} | changes)
    )
    return event, assessment_row(id, event["id"], severity)


def assessment_row(id: UUID, event_id: UUID, severity: int) -> Row:
    body = Assessment(
        id=str(id),
        event_id=str(event_id),
        score=SEVERITIES[severity],
        severity=severity,  # type: ignore[arg-type]
        summary="A person at the door.",
        reasoner="rules/v1",
        assessed_at=stamp(NOON),
    )
    return {
        "id": id,
        "event_id": event_id,
        "evidence_revision": 1,
        "evidence_digest": "",
        "score": SEVERITIES[severity],
        "severity": severity,
        "body": body.SerializeToString(),
        "assessed_at": NOON,
        "recorded_at": NOON,
    }


def failure_row(event_id: UUID, **changes: Any) -> Row:
    return {
        "id": uuid4(),
        "event_id": event_id,
        "evidence_revision": 1,
        "evidence_digest": "",
        "reason": "BAD_ANSWER",
        "detail": "no JSON",
        "failed_at": NOON,
        "recorded_at": NOON,
        "given_up_request_id": None,
    } | changes


def rejection_row(**changes: Any) -> Row:
    return {
        "id": uuid4(),
        "camera_id": "front",
        "path": "front/broken.jpg",
        "size_bytes": 10,
        "mtime_ns": 1,
        "reason": 2,
        "detail": "The file ends in the middle.",
        "rejected_at": NOON,
        "media_id": None,
        "recorded_at": NOON,
    } | changes


def feed_row(sequence: int, severity: int = 0, camera_id: str = "front", deleted: bool = False) -> Row:
    event_id = UUID(int=sequence)
    event = Event(id=str(event_id), camera_id=camera_id, sequence=sequence)
    if severity:
        event.assessment.severity = severity  # type: ignore[assignment]
    change = EventChanged(sequence=sequence, event=event, deleted=deleted, recorded_at=stamp(NOON))
    return {
        "sequence": sequence,
        "event_id": event_id,
        "camera_id": camera_id,
        "status": PENDING,
        "severity": severity or None,
        "deleted": deleted,
        "body": change.SerializeToString(),
        "recorded_at": NOON,
    }


async def write_due(database: Database, *pairs: tuple[Row, Row]) -> list[str]:
    """Writes events with their jobs; the events' ids."""
    await write(database, tables.events, *[event for event, _ in pairs])
    await write(database, tables.jobs, *[job for _, job in pairs])
    return [str(event["id"]) for event, _ in pairs]


async def write_assessed(database: Database, *pairs: tuple[Row, Row]) -> list[str]:
    """Writes events with their assessments; the events' ids."""
    await write(database, tables.events, *[event for event, _ in pairs])
    await write(database, tables.assessments, *[assessment for _, assessment in pairs])
    return [str(event["id"]) for event, _ in pairs]
