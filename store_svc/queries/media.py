"""Media that were looked at, and files that were refused or seen before."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.store.v1.media_service_pb2 import (
    EventMedia,
    ListMediaResponse,
    ListRejectionsResponse,
    StoredMedia,
)
from mesh.problems import NotFound
from store_svc import messages
from store_svc.database import Database
from store_svc.files import file_id
from store_svc.queries.page_tokens import ID, TIME, PageTokens
from store_svc.queries.where import Where

_BATCH = "SELECT * FROM media WHERE id = ANY($1::uuid[])"
_OF_EVENTS = """
    SELECT event.place, media.*
    FROM unnest($1::uuid[]) WITH ORDINALITY AS event (id, place)
    CROSS JOIN LATERAL (SELECT DISTINCT media_id FROM detections WHERE event_id = event.id) member
    JOIN media ON media.id = member.media_id
    ORDER BY event.place, media.captured_at, media.id
"""
_UNKNOWN = """
    SELECT file.place - 1 AS position
    FROM unnest($1::uuid[]) WITH ORDINALITY AS file (id, place)
    WHERE NOT EXISTS (SELECT FROM files WHERE files.id = file.id)
    ORDER BY file.place
"""


async def get_media(database: Database, media_id: str) -> StoredMedia:
    """Raises NotFound MEDIA_NOT_FOUND."""
    found = await batch_media(database, [media_id])
    if not found:
        raise NotFound("there is no such media", "MEDIA_NOT_FOUND", media_id=media_id)
    return found[0]


async def batch_media(database: Database, media_ids: Sequence[str]) -> list[StoredMedia]:
    """Those that exist, in no order."""
    async with database.session() as connection:
        return [messages.stored_media(row) for row in await connection.fetch(_BATCH, media_ids)]


async def media_of_events(database: Database, event_ids: Sequence[str]) -> list[EventMedia]:
    """Of each event, in the order asked; an unknown one has none."""
    async with database.session() as connection:
        rows = await connection.fetch(_OF_EVENTS, event_ids)
    found = {place: list(group) for place, group in groupby(rows, itemgetter("place"))}
    return [
        EventMedia(event_id=event_id, media=[messages.stored_media(row) for row in found.get(place, [])])
        for place, event_id in enumerate(event_ids, 1)
    ]


async def list_media(
    database: Database, camera_ids: Iterable[str], size: int, token: str
) -> ListMediaResponse:
    """One page, newest capture first; of all cameras if none is named. Raises Invalid BAD_PAGE_TOKEN."""
    scope, where = sorted(camera_ids), Where()
    pages = PageTokens("media", {"captured_at": TIME, "id": ID}, scope)
    if scope:
        where.add("camera_id = ANY({}::text[])", scope)
    if key := pages.after(token):
        where.add("(captured_at, id) < ({}, {})", *key)
    limit = where.argument(size + 1)
    statement = f"SELECT * FROM media {where} ORDER BY captured_at DESC, id DESC LIMIT {limit}"  # noqa: S608
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    page, tokens, following = pages.cut(rows, size)
    return ListMediaResponse(
        media=[messages.stored_media(row) for row in page], page_tokens=tokens, next_page_token=following
    )


async def list_rejections(database: Database, size: int, token: str) -> ListRejectionsResponse:
    """One page, newest first. Raises Invalid BAD_PAGE_TOKEN."""
    where, pages = Where(), PageTokens("rejections", {"rejected_at": TIME, "id": ID})
    if key := pages.after(token):
        where.add("(rejected_at, id) < ({}, {})", *key)
    limit = where.argument(size + 1)
    statement = f"SELECT * FROM rejections {where} ORDER BY rejected_at DESC, id DESC LIMIT {limit}"  # noqa: S608
    async with database.session() as connection:
        rows = await connection.fetch(statement, *where.arguments)
    page, tokens, following = pages.cut(rows, size)
    return ListRejectionsResponse(
        rejections=[messages.rejection(row) for row in page],
        page_tokens=tokens,
        next_page_token=following,
    )


async def unknown_files(database: Database, files: Iterable[FileFingerprint]) -> list[int]:
    """The positions of those never recorded in this state."""
    async with database.session() as connection:
        return [
            row["position"] for row in await connection.fetch(_UNKNOWN, [file_id(file) for file in files])
        ]
