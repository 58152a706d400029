"""Locks the cameras of a batch of media, and creates those that a photo names for the first time."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Text, cast, func, select

from store_svc.camera_repository import announce_camera, insert_camera
from store_svc.database.statement import Connection, Statement, array, one_of
from store_svc.database.tables import cameras
from store_svc.domain.camera import new_camera
from store_svc.recording.media_record import MediaRecord

_ids = array("ids", cameras.c.id)
_other = cameras.alias("other")
_named = one_of(cameras.c.id, "ids")
_KNOWN = Statement(select(cameras.c.id).where(_named))
# All or none: a transaction that held some of them while it creates the others would lock out of order.
_LOCK = Statement(
    select(
        cameras.c.id,
        cameras.c.display_name,
        cameras.c.time_zone,
        cameras.c.deleted_at.is_not(None).label("deleted"),
        cameras.c.revision,
        cast(cameras.c.thresholds, Text).label("thresholds"),
        cameras.c.scene,
    )
    .where(
        _named,
        select(func.count(_other.c.id)).where(one_of(_other.c.id, "ids")).scalar_subquery()
        == func.cardinality(_ids),
    )
    .order_by(cameras.c.id)
    .with_for_update()
)


@dataclass(frozen=True, slots=True)
class LockedCamera:
    """A locked row of the table `cameras`; `thresholds` is the JSON text of the column, `scene` a
    serialised CameraScene."""

    id: str
    display_name: str
    time_zone: str
    deleted: bool
    revision: int
    thresholds: str
    scene: bytes

    def zone_or(self, default: str) -> str:
        """Its time zone, or `default` if it has none."""
        return self.time_zone or default


async def lock_or_create_cameras(
    connection: Connection, records: Iterable[MediaRecord], now: datetime
) -> tuple[dict[str, LockedCamera], bool]:
    """Locks the cameras of these records, in order of id, and creates unknown ones, with the name that their
    first record gives. Returns the cameras by id, and whether any was created."""
    names: dict[str, str] = {}
    for record in records:
        names.setdefault(record.camera_id, record.camera_name)
    locked = await _lock(connection, names)
    if locked.keys() == names.keys():
        return locked, False
    known = {row["id"] for row in await _KNOWN.fetch(connection, ids=list(names))}
    await _create(connection, {id: names[id] for id in sorted(names.keys() - known)}, now)
    return await _lock(connection, names), True


async def _lock(connection: Connection, ids: Collection[str]) -> dict[str, LockedCamera]:
    return {row["id"]: LockedCamera(**row) for row in await _LOCK.fetch(connection, ids=list(ids))}


async def _create(connection: Connection, names: Mapping[str, str], now: datetime) -> None:
    for id, name in names.items():
        camera = new_camera(id, name, now)
        if await insert_camera(connection, camera):
            await announce_camera(connection, camera)
