"""The cameras in the database. Every change goes onto store.cameras.v1 by the outbox, in its transaction."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.problems import Conflict, NotFound
from store_svc.camera import SETTINGS, Camera
from store_svc.database import Database
from store_svc.snapshots import camera_configured
from store_svc.tables import camera_outbox, cameras
from store_svc.wakeups import Wakeups


class Cameras:
    def __init__(self, database: Database, wakeups: Wakeups, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._wakeups = wakeups
        self._clock = clock

    async def create(
        self, id: str, display_name: str, time_zone: str, enabled: bool, thresholds: Mapping[str, float]
    ) -> Camera:
        """Also revives a deleted one. Raises Conflict (CAMERA_EXISTS), Invalid."""

        async def work(connection: AsyncConnection) -> Camera:
            now = self._clock()
            old = await _locked(connection, id)
            if old is not None and old.deleted_at is None:
                raise Conflict(f"camera {id} exists already", "CAMERA_EXISTS", camera_id=id)
            revision = old.revision + 1 if old else 1
            camera = Camera(id, display_name or id, time_zone, enabled, dict(thresholds), revision, now, now)
            camera.check()
            await _write(connection, camera)
            return camera

        return await self._changed(work)

    async def update(self, id: str, changes: Mapping[str, Any], paths: Collection[str] = ()) -> Camera:
        """Sets those of `changes` that `paths` names (of SETTINGS; none: all). Raises NotFound, Invalid."""
        wanted = {name: changes[name] for name in (paths or SETTINGS) if name in SETTINGS}

        async def work(connection: AsyncConnection) -> Camera:
            camera = (await _existing(connection, id)).changed(self._clock(), **wanted)
            await _write(connection, camera)
            return camera

        return await self._changed(work)

    async def delete(self, id: str) -> None:
        """Leaves a tombstone: what still comes of it is dropped; its events stay. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Camera:
            now = self._clock()
            camera = (await _existing(connection, id)).changed(now, deleted_at=now)
            await _write(connection, camera)
            return camera

        await self._changed(work)

    async def _changed(self, work: Callable[[AsyncConnection], Any]) -> Camera:
        camera: Camera = await self._database.transaction(work)
        self._wakeups.feed.notify()
        return camera


async def _existing(connection: AsyncConnection, id: str) -> Camera:
    camera = await _locked(connection, id)
    if camera is None or camera.deleted_at is not None:
        raise NotFound(f"there is no camera {id}", "CAMERA_NOT_FOUND", camera_id=id)
    return camera


async def _locked(connection: AsyncConnection, id: str) -> Camera | None:
    query = select(cameras).where(cameras.c.id == id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    return Camera(**row) if row else None


async def _write(connection: AsyncConnection, camera: Camera) -> None:
    values = asdict(camera)
    statement = insert(cameras).values(values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    body = camera_configured(camera).SerializeToString()
    await connection.execute(camera_outbox.insert().values(camera_id=camera.id, body=body))
