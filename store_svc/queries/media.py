"""Media that were detected in, their frames, rejections, and states of files that are known."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, select, true, tuple_, union_all

from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.store.v1.media_service_pb2 import (
    EventMedia,
    ListMediaResponse,
    ListRejectionsResponse,
    MediaFrames,
    StoredMedia,
)
from mesh.problems import NotFound
from store_svc.database import Database
from store_svc.database.statement import FilteredStatement, Statement, one_of, parameter, unnested
from store_svc.database.tables import detections, events, files, frames, media, rejections, tombstones
from store_svc.ids import file_id
from store_svc.messages import frame_message, media_message, photo_frame_message, rejection_message
from store_svc.queries.page_tokens import ID, TIME, PageTokens

_limit = parameter("limit", Integer)
_after_id = parameter("after_id", media.c.id)
_BATCH = Statement(select(media).where(one_of(media.c.id, "ids")))
_FRAMES = Statement(
    select(
        frames.c.media_id,
        frames.c.index,
        frames.c.captured_at,
        frames.c.width,
        frames.c.height,
        frames.c.motion_significance,
    )
    .where(one_of(frames.c.media_id, "ids"))
    .order_by(frames.c.media_id, frames.c.index)
)


def _media_of_events() -> Statement:
    event = unnested("event", {"id": events.c.id}, ordinality="place")
    member = (
        select(detections.c.media_id).distinct().where(detections.c.event_id == event.c.id).lateral("member")
    )
    return Statement(
        select(event.c.place, media)
        .select_from(event.join(member, true()).join(media, media.c.id == member.c.media_id))
        .order_by(event.c.place, media.c.captured_at, media.c.id)
    )


def _unknown_files() -> Statement:
    file = unnested("file", {"id": files.c.id}, ordinality="place")
    known = select(files.c.id).where(files.c.id == file.c.id).exists()
    return Statement(select((file.c.place - 1).label("position")).where(~known).order_by(file.c.place))


def _select_media(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    newest = media.c.captured_at.desc(), media.c.id.desc()
    return select(media).where(*conditions).order_by(*newest).limit(_limit)


def _select_rejections(conditions: list[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
    newest = rejections.c.rejected_at.desc(), rejections.c.id.desc()
    taken_later = (
        select(media.c.id)
        .where(
            media.c.path == rejections.c.path,
            media.c.camera_id == rejections.c.camera_id,
            media.c.ingested_at > rejections.c.rejected_at,
        )
        .exists()
    )
    return select(rejections).where(~taken_later, *conditions).order_by(*newest).limit(_limit)


_KNOWN = Statement(
    union_all(
        select(media.c.id).where(one_of(media.c.id, "ids")),
        select(tombstones.c.id).where(tombstones.c.kind == "media", one_of(tombstones.c.id, "ids")),
    )
)
_OF_EVENTS, _UNKNOWN = _media_of_events(), _unknown_files()
_PAGE = FilteredStatement(
    _select_media,
    {
        "camera_ids": one_of(media.c.camera_id, "camera_ids"),
        "after_id": tuple_(media.c.captured_at, media.c.id)
        < tuple_(parameter("after_captured_at", media.c.captured_at), _after_id),
    },
)
_REJECTIONS = FilteredStatement(
    _select_rejections,
    {
        "after_id": tuple_(rejections.c.rejected_at, rejections.c.id)
        < tuple_(parameter("after_rejected_at", rejections.c.rejected_at), _after_id),
    },
)


async def get_media(database: Database, media_id: str) -> StoredMedia:
    """Raises NotFound (MEDIA_NOT_FOUND)."""
    found = await batch_media(database, [media_id])
    if not found:
        raise NotFound("there is no such media", "MEDIA_NOT_FOUND", media_id=media_id)
    return found[0]


async def batch_media(database: Database, media_ids: Sequence[str]) -> list[StoredMedia]:
    """Those that exist, in no order."""
    async with database.connection() as connection:
        return [media_message(row) for row in await _BATCH.fetch(connection, ids=media_ids)]


async def media_of_events(database: Database, event_ids: Sequence[str]) -> list[EventMedia]:
    """Of each event, in the order of the request; an unknown event has none."""
    async with database.connection() as connection:
        rows = await _OF_EVENTS.fetch(connection, event_id=event_ids)
    found = {place: list(group) for place, group in groupby(rows, itemgetter("place"))}
    return [
        EventMedia(event_id=event_id, media=[media_message(row) for row in found.get(place, [])])
        for place, event_id in enumerate(event_ids, 1)
    ]


async def frames_of(database: Database, media_ids: Sequence[str]) -> list[MediaFrames]:
    """Of each media, in the order of the request; an unknown media has none."""
    async with database.connection() as connection:
        rows = await _FRAMES.fetch(connection, ids=media_ids)
        by_media = groupby(rows, itemgetter("media_id"))
        found = {str(id): [frame_message(row) for row in group] for id, group in by_media}
        # Photos whose findings an earlier version of detect_svc had filtered have no row of their own.
        if others := [id for id in media_ids if id not in found]:
            for row in await _BATCH.fetch(connection, ids=others):
                found[str(row["id"])] = [photo_frame_message(row)]
    return [MediaFrames(media_id=id, frames=found.get(id, [])) for id in media_ids]


async def list_media(
    database: Database, camera_ids: Iterable[str], size: int, token: str
) -> ListMediaResponse:
    """One page, the newest capture first; of all cameras if none is named. Raises Invalid
    (BAD_PAGE_TOKEN)."""
    scope = sorted(camera_ids)
    tokens = PageTokens("media", {"captured_at": TIME, "id": ID}, scope)
    values: dict[str, Any] = {"camera_ids": scope} if scope else {}
    if key := tokens.after(token):
        values["after_captured_at"], values["after_id"] = key
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, limit=size + 1, **values)
    page, page_tokens, next_page_token = tokens.cut(rows, size)
    return ListMediaResponse(
        media=[media_message(row) for row in page],
        page_tokens=page_tokens,
        next_page_token=next_page_token,
    )


async def list_rejections(database: Database, size: int, token: str) -> ListRejectionsResponse:
    """One page, newest first. Raises Invalid (BAD_PAGE_TOKEN)."""
    tokens = PageTokens("rejections", {"rejected_at": TIME, "id": ID})
    values: dict[str, Any] = {}
    if key := tokens.after(token):
        values["after_rejected_at"], values["after_id"] = key
    async with database.connection() as connection:
        rows = await _REJECTIONS.fetch(connection, limit=size + 1, **values)
    page, page_tokens, next_page_token = tokens.cut(rows, size)
    return ListRejectionsResponse(
        rejections=[rejection_message(row) for row in page],
        page_tokens=page_tokens,
        next_page_token=next_page_token,
    )


async def unknown_files(database: Database, files: Iterable[FileFingerprint]) -> list[int]:
    """The positions of the files that were never recorded in this state."""
    ids = [file_id(file) for file in files]
    async with database.connection() as connection:
        return [row["position"] for row in await _UNKNOWN.fetch(connection, file_id=ids)]


async def known_media(database: Database, media_ids: Sequence[str]) -> list[str]:
    """Those that were recorded, whether deleted since or not."""
    async with database.connection() as connection:
        return [str(row["id"]) for row in await _KNOWN.fetch(connection, ids=media_ids)]
