"""Changes of cameras. Each change puts a record for store.cameras.v1 into the outbox, in its transaction."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from mesh.problems import Conflict, NotFound
from store_svc.commit_signals import CommitSignals
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, equals, parameter
from store_svc.database.tables import camera_outbox, cameras, vehicles
from store_svc.domain.camera import StoredCamera
from store_svc.domain.camera_scene import changed_scene
from store_svc.messages import camera_configured

_LOCK = Statement(select(cameras).where(equals(cameras.c.id, "id")).with_for_update())
_INSERT = Statement(insert(cameras).on_conflict_do_nothing().returning(cameras.c.id))
_UPDATE = Statement(
    update(cameras)
    .values(
        {column.name: parameter(column.name, column) for column in cameras.columns if not column.primary_key}
    )
    .where(equals(cameras.c.id, "camera_id"))
)
_FORGET_VEHICLES = Statement(delete(vehicles).where(equals(vehicles.c.camera_id, "camera_id")))
_ANNOUNCE = Statement(
    insert(camera_outbox)
    .inline()
    .values(
        camera_id=parameter("camera_id", camera_outbox.c.camera_id),
        body=parameter("body", camera_outbox.c.body),
    )
)


class CameraRepository:
    def __init__(self, database: Database, signals: CommitSignals, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._signals = signals
        self._clock = clock

    async def create(
        self,
        id: str,
        display_name: str,
        time_zone: str,
        enabled: bool,
        thresholds: Mapping[str, float],
        **scene_parts: Any,
    ) -> StoredCamera:
        """Also revives a deleted camera. `scene_parts` are by the names in SCENE_SETTINGS. Raises Conflict
        (CAMERA_EXISTS), Invalid."""
        scene = changed_scene(b"", scene_parts)

        async def work(connection: Connection) -> StoredCamera:
            now = self._clock()
            old = await _lock(connection, id)
            revision = old.revision + 1 if old else 1
            camera = StoredCamera(
                id, display_name or id, time_zone, enabled, dict(thresholds), revision, now, now, scene=scene
            )
            camera.validate()
            if old is None:
                created = await insert_camera(connection, camera)
            else:
                created = old.deleted_at is not None
                await _update(connection, camera)
            if not created:
                raise Conflict(f"camera {id} exists already", "CAMERA_EXISTS", camera_id=id)
            await announce_camera(connection, camera)
            return camera

        return await self._commit(work)

    async def update(self, id: str, changes: Mapping[str, Any]) -> StoredCamera:
        """Sets `changes`, by the names in SETTINGS. Raises NotFound (CAMERA_NOT_FOUND), Invalid."""

        async def work(connection: Connection) -> StoredCamera:
            return await _change(connection, id, self._clock(), **changes)

        return await self._commit(work)

    async def delete(self, id: str) -> None:
        """Leaves a tombstone: later records of the camera are dropped, and its events stay. What stood before
        it is forgotten, because it may look elsewhere when it is created again. Raises NotFound
        (CAMERA_NOT_FOUND)."""

        async def work(connection: Connection) -> StoredCamera:
            now = self._clock()
            deleted = await _change(connection, id, now, deleted_at=now)
            await _FORGET_VEHICLES.execute(connection, camera_id=id)
            return deleted

        await self._commit(work)

    async def _commit(self, work: "Callable[[Connection], Awaitable[StoredCamera]]") -> StoredCamera:
        camera = await self._database.transaction(work)
        self._signals.feed.notify()
        return camera


async def insert_camera(connection: Connection, camera: StoredCamera) -> bool:
    """Returns False if another transaction has created it meanwhile."""
    return await _INSERT.fetch_value(connection, **_row(camera)) is not None


async def announce_camera(connection: Connection, camera: StoredCamera) -> None:
    """Puts the camera as it is now into the outbox."""
    body = camera_configured(camera).SerializeToString()
    await _ANNOUNCE.execute(connection, camera_id=camera.id, body=body)


async def _change(connection: Connection, id: str, now: datetime, **changes: Any) -> StoredCamera:
    camera = await _lock(connection, id)
    if camera is None or camera.deleted_at is not None:
        raise NotFound(f"there is no camera {id}", "CAMERA_NOT_FOUND", camera_id=id)
    changed = camera.with_changes(now, **changes)
    await _update(connection, changed)
    await announce_camera(connection, changed)
    return changed


async def _lock(connection: Connection, id: str) -> StoredCamera | None:
    row = await _LOCK.fetch_one(connection, id=id)
    return StoredCamera(**row) if row else None


async def _update(connection: Connection, camera: StoredCamera) -> None:
    row = _row(camera)
    await _UPDATE.execute(connection, camera_id=row.pop("id"), **row)


def _row(camera: StoredCamera) -> dict[str, Any]:
    return asdict(camera) | {"thresholds": json.dumps(dict(camera.thresholds))}
