"""The detections of an event or of a media: the oldest capture first, then the highest score."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import ColumnElement, Integer, Select, literal, or_, select, true, union_all

from lares.store.v1.detection_service_pb2 import DetectionPage
from store_svc.database import Database
from store_svc.database.statement import FilteredStatement, Record, Statement, equals, parameter, unnested
from store_svc.database.tables import detections
from store_svc.messages import detection_message
from store_svc.queries.page_tokens import ID, SCORE, TIME, PageTokens

Parent = Literal["event_id", "media_id"]
_PARENTS: tuple[Parent, ...] = ("event_id", "media_id")

_found = detections.c
_COLUMNS = [column for column in detections.columns if column is not _found.rank]
_ORDER = (_found.captured_at, _found.score.desc(), _found.id)
_limit = parameter("limit", Integer)


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
    {parent: equals(_found[parent], parent) for parent in _PARENTS} | {"after_id": _after()},
)


def _first_pages() -> Statement:
    """The first page of each parent in two lists, in one statement."""
    parts = []
    for kind in _PARENTS:
        parent = unnested(kind, {"id": _found.id}, ordinality="place")
        page = _select([_found[kind] == parent.c.id]).lateral("page")
        parts.append(
            select(literal(kind).label("kind"), parent.c.place, *page.c).select_from(
                parent.join(page, true())
            )
        )
    union = union_all(*parts).subquery("found")
    order = (union.c.kind, union.c.place, union.c.captured_at, union.c.score.desc(), union.c.id)
    return Statement(select(union).order_by(*order))


_FIRST_PAGES = _first_pages()


async def list_detections(
    database: Database, parent: Parent, parent_id: str, size: int, token: str
) -> DetectionPage:
    """One page of one parent; empty for an unknown one. Raises Invalid (BAD_PAGE_TOKEN)."""
    values: dict[str, Any] = {parent: parent_id, "limit": size + 1}
    if key := _tokens(parent, parent_id).after(token):
        values |= zip(("after_captured_at", "after_score", "after_id"), key, strict=True)
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, **values)
    return _page(parent, parent_id, rows, size)


async def first_detections(
    database: Database, event_ids: Sequence[str], media_ids: Sequence[str], size: int
) -> list[DetectionPage]:
    """The first page of each parent, in the order of the request, events before media."""
    async with database.connection() as connection:
        rows = await _FIRST_PAGES.fetch(
            connection, event_id_id=event_ids, media_id_id=media_ids, limit=size + 1
        )
    found = {place: list(group) for place, group in groupby(rows, itemgetter("kind", "place"))}

    def pages(parent: Parent, parent_ids: Iterable[str]) -> list[DetectionPage]:
        return [
            _page(parent, parent_id, found.get((parent, place), []), size)
            for place, parent_id in enumerate(parent_ids, 1)
        ]

    return pages("event_id", event_ids) + pages("media_id", media_ids)


def _tokens(parent: Parent, parent_id: str) -> PageTokens:
    key = {"captured_at": TIME, "score": SCORE, "id": ID}
    return PageTokens("detections", key, scope=(parent, parent_id.lower()))


def _page(parent: Parent, parent_id: str, rows: Sequence[Record], size: int) -> DetectionPage:
    page, page_tokens, next_page_token = _tokens(parent, parent_id).cut(rows, size)
    return DetectionPage(
        parent_id=parent_id,
        detections=[detection_message(row) for row in page],
        page_tokens=page_tokens,
        next_page_token=next_page_token,
    )
