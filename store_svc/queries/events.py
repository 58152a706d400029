"""Events as people see them: with their current assessment and their camera's name of now."""

from typing import Any

from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFilter, ListEventsResponse
from mesh.problems import NotFound
from store_svc import messages
from store_svc.database import Database
from store_svc.pages import ID, TIME, Pages
from store_svc.queries.where import Where

_COLUMNS = """
    e.id, e.camera_id, coalesce(c.display_name, e.camera_id) AS camera_name, e.status, e.revision, e.sequence,
    e.started_at, e.ended_at, e.closed, e.labels, e.detection_count, e.media_count, a.body AS assessment
"""
_JOINS = "LEFT JOIN cameras c ON c.id = e.camera_id LEFT JOIN assessments a ON a.id = e.assessment_id"
_ONE = f"SELECT {_COLUMNS} FROM events e {_JOINS} WHERE e.id = $1"  # noqa: S608 - constants


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
    pages = Pages("events", {"started_at": TIME, "id": ID}, scope)
    if key := pages.after(token):
        where.add("(started_at, id) < ({}, {})", *key)
    # The page is cut before the joins: they look up its rows alone.
    limit = where.argument(size + 1)
    statement = f"""
        SELECT {_COLUMNS}
        FROM (SELECT * FROM events {where} ORDER BY started_at DESC, id DESC LIMIT {limit}) e
        {_JOINS} ORDER BY e.started_at DESC, e.id DESC
    """  # noqa: S608 - constants and placeholders
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    page, tokens, following = pages.cut(rows, size)
    return ListEventsResponse(
        events=[messages.event(row) for row in page], page_tokens=tokens, next_page_token=following
    )


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
