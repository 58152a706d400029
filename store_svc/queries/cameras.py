"""The cameras' configuration."""

from collections.abc import Sequence

from lares.store.v1.camera_pb2 import Camera
from lares.store.v1.camera_service_pb2 import ListCamerasResponse
from mesh.problems import NotFound
from store_svc import messages
from store_svc.database import Database
from store_svc.domain.camera import StoredCamera
from store_svc.queries.page_tokens import SLUG, PageTokens
from store_svc.snapshots import camera_message

_ONE = "SELECT * FROM cameras WHERE id = $1 AND deleted_at IS NULL"
_BATCH = "SELECT * FROM cameras WHERE id = ANY($1::text[])"
# '' is less than every id.
_LIST = "SELECT * FROM cameras WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2"


async def get_camera(database: Database, camera_id: str) -> Camera:
    """Raises NotFound CAMERA_NOT_FOUND, for deleted ones too."""
    return camera_message(await stored_camera(database, camera_id))


async def stored_camera(database: Database, camera_id: str) -> StoredCamera:
    """Raises NotFound CAMERA_NOT_FOUND, for deleted ones too."""
    async with database.session() as connection:
        row = await connection.fetchrow(_ONE, camera_id)
    if row is None:
        raise NotFound("there is no such camera", "CAMERA_NOT_FOUND", camera_id=camera_id)
    return StoredCamera(**dict(row))


async def batch_cameras(database: Database, camera_ids: Sequence[str]) -> list[Camera]:
    """Those that exist, deleted ones included, in no order."""
    async with database.session() as connection:
        return [messages.camera(row) for row in await connection.fetch(_BATCH, camera_ids)]


async def list_cameras(database: Database, size: int, token: str) -> ListCamerasResponse:
    """One page by id, ascending, without deleted ones. Raises Invalid BAD_PAGE_TOKEN."""
    pages = PageTokens("cameras", {"id": SLUG})
    (after,) = pages.after(token) or ("",)
    async with database.session() as connection:
        rows = await connection.fetch(_LIST, after, size + 1)
    page, _, following = pages.cut(rows, size)
    return ListCamerasResponse(cameras=[messages.camera(row) for row in page], next_page_token=following)
