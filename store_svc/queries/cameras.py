"""The configuration of cameras."""

from collections.abc import Sequence

from sqlalchemy import Integer, select

from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2 import ListCamerasResponse
from mesh.problems import NotFound
from store_svc.database import Database
from store_svc.database.statement import Statement, equals, one_of, parameter
from store_svc.database.tables import cameras
from store_svc.domain.camera import StoredCamera
from store_svc.messages import camera_message
from store_svc.queries.page_tokens import SLUG, PageTokens

_ONE = Statement(select(cameras).where(equals(cameras.c.id, "id"), cameras.c.deleted_at.is_(None)))
_BATCH = Statement(select(cameras).where(one_of(cameras.c.id, "ids")))
_PAGE = Statement(
    select(cameras)
    .where(cameras.c.id > parameter("after", cameras.c.id), cameras.c.deleted_at.is_(None))
    .order_by(cameras.c.id)
    .limit(parameter("limit", Integer))
)


async def stored_camera(database: Database, camera_id: str) -> StoredCamera:
    """Raises NotFound (CAMERA_NOT_FOUND), for a deleted camera, too."""
    async with database.connection() as connection:
        row = await _ONE.fetch_one(connection, id=camera_id)
    if row is None:
        raise NotFound("there is no such camera", "CAMERA_NOT_FOUND", camera_id=camera_id)
    return StoredCamera(**row)


async def batch_cameras(database: Database, camera_ids: Sequence[str]) -> list[Camera]:
    """Those that exist, with deleted ones, in no order."""
    async with database.connection() as connection:
        rows = await _BATCH.fetch(connection, ids=camera_ids)
    return [camera_message(StoredCamera(**row)) for row in rows]


async def list_cameras(database: Database, size: int, token: str) -> ListCamerasResponse:
    """One page by id, ascending, without deleted cameras. Raises Invalid (BAD_PAGE_TOKEN)."""
    tokens = PageTokens("cameras", {"id": SLUG})
    (after,) = tokens.after(token) or ("",)  # '' is less than every id
    async with database.connection() as connection:
        rows = await _PAGE.fetch(connection, after=after, limit=size + 1)
    page, _, next_page_token = tokens.cut(rows, size)
    messages = [camera_message(StoredCamera(**row)) for row in page]
    return ListCamerasResponse(cameras=messages, next_page_token=next_page_token)
