"""Cameras that a photo makes by itself, and the lock that every record of a camera takes."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from store_svc.domain.camera import new_camera
from store_svc.records import Arrival
from store_svc.snapshots import camera_configured

# All or none: whoever held some while it makes the others would lock out of order.
_LOCK = """
SELECT id, display_name, time_zone, deleted_at IS NOT NULL AS deleted, revision,
    thresholds::text AS thresholds
FROM cameras WHERE id = ANY($1::text[])
AND (SELECT count(*) FROM cameras WHERE id = ANY($1::text[])) = cardinality($1::text[])
ORDER BY id FOR UPDATE
"""
_KNOWN = "SELECT id FROM cameras WHERE id = ANY($1::text[])"
_MAKE = """
INSERT INTO cameras (id, display_name, time_zone, enabled, thresholds, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id
"""


@dataclass(frozen=True, slots=True)
class CameraRow:
    """`thresholds` is the column's JSON text."""

    id: str
    display_name: str
    time_zone: str
    deleted: bool
    revision: int
    thresholds: str


async def lock_or_make_cameras(
    connection: "asyncpg.Connection", arrivals: Iterable[Arrival], now: datetime
) -> tuple[dict[str, CameraRow], bool]:
    """Locks the rows of these cameras, in id order; unknown ones are made, as their first photo names them.
    The rows by id, and whether any was made."""
    names: dict[str, str] = {}
    for arrival in arrivals:
        names.setdefault(arrival.camera_id, arrival.camera_name)
    rows = await _lock(connection, names)
    if rows.keys() == names.keys():
        return rows, False
    missing = names.keys() - {row["id"] for row in await connection.fetch(_KNOWN, list(names))}
    await _make(connection, {id: names[id] for id in sorted(missing)}, now)
    return await _lock(connection, names), True


async def _lock(connection: "asyncpg.Connection", ids: Collection[str]) -> dict[str, CameraRow]:
    return {row["id"]: CameraRow(*row) for row in await connection.fetch(_LOCK, list(ids))}


async def _make(connection: "asyncpg.Connection", names: Mapping[str, str], now: datetime) -> None:
    for id, name in names.items():
        camera = new_camera(id, name, now)
        made = await connection.fetchval(
            _MAKE,
            camera.id,
            camera.display_name,
            camera.time_zone,
            camera.enabled,
            json.dumps(camera.thresholds),
            camera.revision,
            camera.created_at,
            camera.updated_at,
        )
        if made:
            await connection.execute(
                "INSERT INTO camera_outbox (camera_id, body) VALUES ($1, $2)",
                id,
                camera_configured(camera).SerializeToString(),
            )
