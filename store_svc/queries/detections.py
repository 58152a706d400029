"""What was found in an event or a media: oldest capture first, then best score."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from lares.store.v1.detection_service_pb2 import DetectionPage
from store_svc import messages
from store_svc.database import Database
from store_svc.queries.page_tokens import ID, SCORE, TIME, PageTokens
from store_svc.queries.where import Where

Parent = Literal["event_id", "media_id"]

_COLUMNS = "id, media_id, event_id, camera_id, frame, label, score, box, captured_at"
_ORDER = "captured_at, score DESC, id"
_BATCH = " UNION ALL ".join(
    f"""
    SELECT '{parent}' AS kind, parent.place, found.*
    FROM unnest({parents}::uuid[]) WITH ORDINALITY AS parent (id, place)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM detections WHERE {parent} = parent.id ORDER BY {_ORDER} LIMIT $3
    ) found
    """  # noqa: S608 - constants
    for parent, parents in (("event_id", "$1"), ("media_id", "$2"))
)
_BATCH += f" ORDER BY kind, place, {_ORDER}"


async def list_detections(
    database: Database, parent: Parent, parent_id: str, size: int, token: str
) -> DetectionPage:
    """One page of one parent; an unknown one has none. Raises Invalid BAD_PAGE_TOKEN."""
    where = Where()
    where.add(f"{parent} = {{}}", parent_id)
    if key := _pages(parent, parent_id).after(token):
        captured_at, score, id = key
        where.add("captured_at >= {}", captured_at)  # where the index scan begins
        where.add(
            "(captured_at > {} OR score < {}::real OR score = {}::real AND id > {})",
            captured_at,
            score,
            score,
            id,
        )
    limit = where.argument(size + 1)
    statement = f"SELECT {_COLUMNS} FROM detections {where} ORDER BY {_ORDER} LIMIT {limit}"  # noqa: S608
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    return _page(parent, parent_id, rows, size)


async def first_detections(
    database: Database, event_ids: Sequence[str], media_ids: Sequence[str], size: int
) -> list[DetectionPage]:
    """The first page of each parent, in the order asked, events before media."""
    async with database.session() as connection:
        rows = await connection.fetch(_BATCH, event_ids, media_ids, size + 1)
    found = {place: list(group) for place, group in groupby(rows, itemgetter("kind", "place"))}

    def pages(parent: Parent, parent_ids: Iterable[str]) -> list[DetectionPage]:
        return [
            _page(parent, parent_id, found.get((parent, place), []), size)
            for place, parent_id in enumerate(parent_ids, 1)
        ]

    return pages("event_id", event_ids) + pages("media_id", media_ids)


def _pages(parent: Parent, parent_id: str) -> PageTokens:
    key = {"captured_at": TIME, "score": SCORE, "id": ID}
    return PageTokens("detections", key, scope=(parent, parent_id.lower()))


def _page(parent: Parent, parent_id: str, rows: Sequence[Any], size: int) -> DetectionPage:
    page, tokens, following = _pages(parent, parent_id).cut(rows, size)
    return DetectionPage(
        parent_id=parent_id,
        detections=[messages.stored_detection(row) for row in page],
        page_tokens=tokens,
        next_page_token=following,
    )
