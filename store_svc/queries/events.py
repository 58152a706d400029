"""Events with their current assessment and the current name of their camera."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, func, literal_column, select, true, tuple_

from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFilter, ListEventsResponse
from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import NotFound
from store_svc.database import Database
from store_svc.database.statement import (
    FilteredStatement,
    Record,
    Statement,
    array,
    equals,
    one_of,
    parameter,
)
from store_svc.database.tables import assessments, cameras, events, feed
from store_svc.messages import bound, event_message
from store_svc.queries.page_tokens import ID, TIME, PageTokens

_ONE = Statement(
    select(
        *events.columns,
        func.coalesce(cameras.c.display_name, events.c.camera_id).label("camera_name"),
        assessments.c.body.label("assessment"),
    )
    .select_from(
        events.outerjoin(cameras, cameras.c.id == events.c.camera_id).outerjoin(
            assessments, assessments.c.id == events.c.assessment_id
        )
    )
    .where(equals(events.c.id, "id"))
)


def _select(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    """An event's latest feed entry contains the whole event, serialised, at half the cost of making it from
    columns. The columns are read only if the feed no longer has the entry: with an OFFSET, PostgreSQL does
    not plan them as a join of whole tables."""
    page = (
        select(events.c.id, events.c.started_at, events.c.camera_id, events.c.sequence)
        .where(*conditions)
        .order_by(events.c.started_at.desc(), events.c.id.desc())
        .limit(parameter("limit", Integer))
        .subquery("page")
    )
    entry, own = feed.alias("entry"), events.alias("own")
    columns = (
        select(
            own.c.status,
            own.c.revision,
            own.c.sequence,
            own.c.ended_at,
            own.c.closed,
            own.c.labels,
            own.c.detection_count,
            own.c.media_count,
            own.c.zones,
            assessments.c.body.label("assessment"),
        )
        .select_from(own.outerjoin(assessments, assessments.c.id == own.c.assessment_id))
        .where(own.c.id == page.c.id, entry.c.sequence.is_(None))
        .offset(literal_column("0"))
        .lateral("columns")
    )
    return (
        select(
            page.c.id,
            page.c.started_at,
            page.c.camera_id,
            func.coalesce(cameras.c.display_name, page.c.camera_id).label("camera_name"),
            entry.c.body.label("entry"),
            *columns.c,
        )
        .select_from(
            page.outerjoin(cameras, cameras.c.id == page.c.camera_id)
            .outerjoin(entry, entry.c.sequence == page.c.sequence)
            .outerjoin(columns, true())
        )
        .order_by(page.c.started_at.desc(), page.c.id.desc())
    )


_PAGE = FilteredStatement(
    _select,
    {
        "camera_ids": one_of(events.c.camera_id, "camera_ids"),
        "labels": events.c.labels.bool_op("&&")(array("labels", Text)),
        # The first condition is that of the index.
        "zone_ids": and_(
            events.c.zones.bool_op("<>")(literal_column("'{}'")),
            events.c.zones.bool_op("&&")(array("zone_ids", Text)),
        ),
        "severities": one_of(events.c.severity, "severities"),
        "statuses": one_of(events.c.status, "statuses"),
        "started_after": events.c.started_at >= parameter("started_after", events.c.started_at),
        "started_before": events.c.started_at < parameter("started_before", events.c.started_at),
        "after_id": tuple_(events.c.started_at, events.c.id)
        < tuple_(parameter("after_started_at", events.c.started_at), parameter("after_id", events.c.id)),
    },
)


async def get_event(database: Database, event_id: str) -> Event:
    """Raises NotFound (EVENT_NOT_FOUND)."""
    async with database.connection() as connection:
        row = await _ONE.fetch_one(connection, id=event_id)
    if row is None:
        raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=event_id)
    return event_message(row, row["camera_name"], row["assessment"])


async def list_events(database: Database, filter: EventFilter, size: int, token: str) -> ListEventsResponse:
    """One page, newest first. Raises Invalid (BAD_PAGE_TOKEN)."""
    values = _filter_values(filter)
    tokens = PageTokens("events", {"started_at": TIME, "id": ID}, scope=list(values.items()))
    if key := tokens.after(token):
        values["after_started_at"], values["after_id"] = key
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, limit=size + 1, **values)
    page, page_tokens, next_page_token = tokens.cut(rows, size)
    response = ListEventsResponse(page_tokens=page_tokens, next_page_token=next_page_token)
    for row in page:
        response.events.add().CopyFrom(_event(row))  # `extend` takes twice as long
    return response


def _event(row: Record) -> Event:
    if row["entry"] is None:
        return event_message(row, row["camera_name"], row["assessment"])
    event = EventChanged.FromString(row["entry"]).event
    if event.camera_name != row["camera_name"]:
        event.camera_name = row["camera_name"]
    return event


def _filter_values(filter: EventFilter) -> dict[str, Any]:
    """By the names of the conditions, those that are set. Sorted, because the order does not matter."""
    values: dict[str, Any] = {
        "camera_ids": sorted(filter.camera_ids),
        "labels": sorted(filter.labels),
        "severities": sorted(filter.severities),
        "statuses": sorted(filter.statuses),
        "zone_ids": sorted(filter.zone_ids),
    }
    if filter.HasField("started_after"):
        values["started_after"] = bound(filter.started_after)
    if filter.HasField("started_before"):
        values["started_before"] = bound(filter.started_before)
    return {name: value for name, value in values.items() if value}
