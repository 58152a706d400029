"""Events as people see them: with their current assessment and their camera's name of now."""

from typing import Any

from asyncpg import Record

from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFilter, ListEventsResponse
from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import NotFound
from store_svc import messages
from store_svc.database import Database
from store_svc.queries.page_tokens import ID, TIME, PageTokens
from store_svc.queries.where import Where

_NAME = "coalesce(c.display_name, e.camera_id) AS camera_name"
_CAMERA = "LEFT JOIN cameras c ON c.id = e.camera_id"
_NEWEST = "ORDER BY started_at DESC, id DESC"
_ONE = f"""
    SELECT e.*, {_NAME}, a.body AS assessment
    FROM events e {_CAMERA} LEFT JOIN assessments a ON a.id = e.assessment_id WHERE e.id = $1
"""  # noqa: S608 - constants
# An event's latest feed entry holds all of it, serialised, at half the cost of making it from columns. The
# columns are read only where the feed no longer keeps the entry.
_PAGE = f"""
    SELECT e.id, e.started_at, e.camera_id, {_NAME}, entry.body AS entry, bare.*
    FROM (SELECT id, started_at, camera_id, sequence FROM events {{where}} {_NEWEST} LIMIT {{limit}}) e
    {_CAMERA}
    LEFT JOIN feed entry ON entry.sequence = e.sequence
    LEFT JOIN LATERAL (
        SELECT status, revision, events.sequence, ended_at, closed, labels, detection_count, media_count,
            a.body AS assessment
        FROM events LEFT JOIN assessments a ON a.id = assessment_id
        WHERE events.id = e.id AND entry.sequence IS NULL
    ) bare ON true
    {_NEWEST}
"""  # noqa: S608 - constants


async def get_event(database: Database, event_id: str) -> Event:
    """Raises NotFound EVENT_NOT_FOUND."""
    async with database.session() as connection:
        row = await connection.fetchrow(_ONE, event_id)
    if row is None:
        raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=event_id)
    return messages.event(row)


async def list_events(database: Database, filter: EventFilter, size: int, token: str) -> ListEventsResponse:
    """One page, newest first. Raises Invalid BAD_PAGE_TOKEN."""
    where, scope = _filtered(filter)
    pages = PageTokens("events", {"started_at": TIME, "id": ID}, scope)
    if key := pages.after(token):
        where.add("(started_at, id) < ({}, {})", *key)
    statement = _PAGE.format(limit=where.argument(size + 1), where=where)
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    page, tokens, following = pages.cut(rows, size)
    response = ListEventsResponse(page_tokens=tokens, next_page_token=following)
    response.events.extend(_event(row) for row in page)
    return response


def _event(row: Record) -> Event:
    if row["entry"] is None:
        return messages.event(row)
    event = EventChanged.FromString(row["entry"]).event
    event.camera_name = row["camera_name"]
    return event


def _filtered(filter: EventFilter) -> tuple[Where, list[tuple[str, Any]]]:
    """The conditions, and the same as a scope for page tokens: the order of values does not matter."""
    parts: list[tuple[str, Any]] = [
        ("camera_id = ANY({}::text[])", sorted(filter.camera_ids)),
        ("labels && {}::text[]", sorted(filter.labels)),
        ("severity = ANY({}::smallint[])", sorted(filter.severities)),
        ("status = ANY({}::smallint[])", sorted(filter.statuses)),
    ]
    if filter.HasField("started_after"):
        parts.append(("started_at >= {}", messages.bound(filter.started_after)))
    if filter.HasField("started_before"):
        parts.append(("started_at < {}", messages.bound(filter.started_before)))
    where, scope = Where(), [(condition, value) for condition, value in parts if value]
    for condition, value in scope:
        where.add(condition, value)
    return where, scope
