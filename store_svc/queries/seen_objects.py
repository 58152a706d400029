"""What a camera has seen recently, by event: to judge its zones and lines, and to propose zones."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from uuid import UUID

from sqlalchemy import Integer, func, select

from mesh.scene.links import SeenObject
from store_svc.database import Database
from store_svc.database.statement import Record, Statement, equals, one_of, parameter
from store_svc.database.tables import detections, events

DAY = timedelta(days=1)

_newest = (
    select(func.max(events.c.started_at)).where(equals(events.c.camera_id, "camera_id")).scalar_subquery()
)
_recent = (
    select(events.c.id, events.c.started_at)
    .where(equals(events.c.camera_id, "camera_id"), events.c.started_at > _newest - DAY)
    .order_by(events.c.started_at.desc(), events.c.id.desc())
    .limit(parameter("limit", Integer))
    .subquery("recent")
)
_SEEN = Statement(
    select(
        detections.c.event_id,
        detections.c.media_id,
        detections.c.label,
        detections.c.score,
        detections.c.box,
        detections.c.captured_at,
    )
    .join_from(_recent, detections, detections.c.event_id == _recent.c.id)
    .where(one_of(detections.c.label, "labels"))
    .order_by(_recent.c.started_at.desc(), _recent.c.id.desc(), detections.c.captured_at, detections.c.id)
    .limit(parameter("limit", Integer))
)


async def recent_objects(
    database: Database, camera_id: str, labels: Sequence[str], limit: int
) -> list[tuple[UUID, list[SeenObject]]]:
    """At most `limit` detections with one of these labels, of the last day on which the camera saw anything:
    by event, the newest first, in order of capture."""
    async with database.connection() as connection:
        rows = await _SEEN.fetch(connection, camera_id=camera_id, labels=list(labels), limit=limit)
    return [(id, [_seen(row) for row in group]) for id, group in groupby(rows, itemgetter("event_id"))]


def _seen(row: Record) -> SeenObject:
    x_min, y_min, x_max, y_max = row["box"]
    box = x_min, y_min, x_max, y_max
    return SeenObject(row["label"], row["score"], box, row["captured_at"], str(row["media_id"]))
