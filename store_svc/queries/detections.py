"""The detections of an event or of a media: the oldest capture first, then the highest score."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import ColumnElement, Integer, Select, Text, literal, or_, select, true, union_all

from lares.store.v1.detection_service_pb2 import DetectionPage
from store_svc.database import Database
from store_svc.database.statement import (
    FilteredStatement,
    Record,
    Statement,
    array,
    equals,
    parameter,
    unnested,
)
from store_svc.database.tables import detections
from store_svc.messages import detection_message
from store_svc.queries.page_tokens import ID, SCORE, TIME, PageTokens

Parent = Literal["event_id", "media_id"]
_PARENTS: tuple[Parent, ...] = ("event_id", "media_id")

_found = detections.c
_COLUMNS = [column for column in detections.columns if column is not _found.rank]
_ORDER = (_found.captured_at, _found.score.desc(), _found.id)
_limit = parameter("limit", Integer)
_in_zones = _found.zones.bool_op("&&")(array("zone_ids", Text))


def _select(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    return select(*_COLUMNS).where(*conditions).order_by(*_ORDER).limit(_limit)


def _after() -> ColumnElement[bool]:
    captured_at = parameter("after_captured_at", _found.captured_at)
    score, id = parameter("after_score", _found.score), parameter("after_id", _found.id)
    at_the_same_time = or_(_found.score < score, (_found.score == score) & (_found.id > id))
    # The first condition tells the index scan where to begin.
    return (_found.captured_at >= captured_at) & or_(_found.captured_at > captured_at, at_the_same_time)


_PAGE = FilteredStatement(
    _select,
    {parent: equals(_found[parent], parent) for parent in _PARENTS}
    | {"after_id": _after(), "zone_ids": _in_zones, "frame": equals(_found.frame, "frame")},
)


def _first_pages(*conditions: ColumnElement[bool]) -> Statement:
    """The first page of each parent in two lists, in one statement."""
    parts = []
    for kind in _PARENTS:
        parent = unnested(kind, {"id": _found.id}, ordinality="place")
        page = _select([_found[kind] == parent.c.id, *conditions]).lateral("page")
        parts.append(
            select(literal(kind).label("kind"), parent.c.place, *page.c).select_from(
                parent.join(page, true())
            )
        )
    union = union_all(*parts).subquery("found")
    order = (union.c.kind, union.c.place, union.c.captured_at, union.c.score.desc(), union.c.id)
    return Statement(select(union).order_by(*order))


_FIRST_PAGES, _FIRST_PAGES_IN_ZONES = _first_pages(), _first_pages(_in_zones)


async def list_detections(
    database: Database,
    parent: Parent,
    parent_id: str,
    zone_ids: Sequence[str],
    size: int,
    token: str,
    frame: int | None = None,
) -> DetectionPage:
    """One page of one parent, in any of the zones, if any are named, and in the frame with this index, if one
    is given; empty for an unknown parent. Raises Invalid (BAD_PAGE_TOKEN)."""
    values: dict[str, Any] = {parent: parent_id, "limit": size + 1}
    if zone_ids:
        values["zone_ids"] = zone_ids
    if frame is not None:
        values["frame"] = frame
    if key := _tokens(parent, parent_id, zone_ids).after(token):
        values |= zip(("after_captured_at", "after_score", "after_id"), key, strict=True)
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, **values)
    return _page(parent, parent_id, zone_ids, rows, size)


async def first_detections(
    database: Database,
    event_ids: Sequence[str],
    media_ids: Sequence[str],
    zone_ids: Sequence[str],
    size: int,
) -> list[DetectionPage]:
    """The first page of each parent, in the order of the request, events before media."""
    values: dict[str, Any] = {"event_id_id": event_ids, "media_id_id": media_ids, "limit": size + 1}
    async with database.connection() as connection:
        if zone_ids:
            rows = await _FIRST_PAGES_IN_ZONES.fetch(connection, zone_ids=zone_ids, **values)
        else:
            rows = await _FIRST_PAGES.fetch(connection, **values)
    found = {place: list(group) for place, group in groupby(rows, itemgetter("kind", "place"))}

    def pages(parent: Parent, parent_ids: Iterable[str]) -> list[DetectionPage]:
        return [
            _page(parent, parent_id, zone_ids, found.get((parent, place), []), size)
            for place, parent_id in enumerate(parent_ids, 1)
        ]

    return pages("event_id", event_ids) + pages("media_id", media_ids)


def _tokens(parent: Parent, parent_id: str, zone_ids: Sequence[str]) -> PageTokens:
    key = {"captured_at": TIME, "score": SCORE, "id": ID}
    scope = (parent, parent_id.lower(), *sorted(zone_ids))
    return PageTokens("detections", key, scope=scope)


def _page(
    parent: Parent, parent_id: str, zone_ids: Sequence[str], rows: Sequence[Record], size: int
) -> DetectionPage:
    page, page_tokens, next_page_token = _tokens(parent, parent_id, zone_ids).cut(rows, size)
    return DetectionPage(
        parent_id=parent_id,
        detections=[detection_message(row) for row in page],
        page_tokens=page_tokens,
        next_page_token=next_page_token,
    )
