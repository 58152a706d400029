"""The cameras in the database. Every change goes onto store.cameras.v1 by the outbox, in its transaction."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.problems import Conflict, NotFound
from store_svc.commit_signals import CommitSignals
from store_svc.database import Database
from store_svc.domain.camera import StoredCamera
from store_svc.snapshots import camera_configured
from store_svc.tables import camera_outbox, cameras


class Cameras:
    def __init__(self, database: Database, signals: CommitSignals, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._signals = signals
        self._clock = clock

    async def create(
        self, id: str, display_name: str, time_zone: str, enabled: bool, thresholds: Mapping[str, float]
    ) -> StoredCamera:
        """Also revives a deleted one. Raises Conflict (CAMERA_EXISTS), Invalid."""

        async def work(connection: AsyncConnection) -> StoredCamera:
            now = self._clock()
            old = await _locked(connection, id)
            revision = old.revision + 1 if old else 1
            camera = StoredCamera(
                id, display_name or id, time_zone, enabled, dict(thresholds), revision, now, now
            )
            camera.validate()
            if old is None:
                free = await _insert(connection, camera)
            else:
                free = old.deleted_at is not None
                await _update(connection, camera)
            if not free:
                raise Conflict(f"camera {id} exists already", "CAMERA_EXISTS", camera_id=id)
            await _tell(connection, camera)
            return camera

        return await self._changed(work)

    async def update(self, id: str, changes: Mapping[str, Any]) -> StoredCamera:
        """Sets `changes`, by the names in SETTINGS. Raises NotFound, Invalid."""

        async def work(connection: AsyncConnection) -> StoredCamera:
            return await _change(connection, id, self._clock(), **changes)

        return await self._changed(work)

    async def delete(self, id: str) -> None:
        """Leaves a tombstone: what still comes of it is dropped; its events stay. Raises NotFound."""

        async def work(connection: AsyncConnection) -> StoredCamera:
            now = self._clock()
            return await _change(connection, id, now, deleted_at=now)

        await self._changed(work)

    async def _changed(self, work: Callable[[AsyncConnection], Any]) -> StoredCamera:
        camera: StoredCamera = await self._database.transaction(work)
        self._signals.feed.notify()
        return camera


async def _change(connection: AsyncConnection, id: str, now: datetime, **changes: Any) -> StoredCamera:
    camera = await _locked(connection, id)
    if camera is None or camera.deleted_at is not None:
        raise NotFound(f"there is no camera {id}", "CAMERA_NOT_FOUND", camera_id=id)
    changed = camera.with_changes(now, **changes)
    await _update(connection, changed)
    await _tell(connection, changed)
    return changed


async def _locked(connection: AsyncConnection, id: str) -> StoredCamera | None:
    query = select(cameras).where(cameras.c.id == id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    return StoredCamera(**row) if row else None


async def _insert(connection: AsyncConnection, camera: StoredCamera) -> bool:
    """False where somebody else, or a photo, has made it meanwhile."""
    statement = insert(cameras).values(asdict(camera)).on_conflict_do_nothing().returning(cameras.c.id)
    return (await connection.execute(statement)).scalar() is not None


async def _update(connection: AsyncConnection, camera: StoredCamera) -> None:
    await connection.execute(cameras.update().where(cameras.c.id == camera.id).values(asdict(camera)))


async def _tell(connection: AsyncConnection, camera: StoredCamera) -> None:
    body = camera_configured(camera).SerializeToString()
    await connection.execute(camera_outbox.insert().values(camera_id=camera.id, body=body))
