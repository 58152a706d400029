"""The warnings about a camera's zones and lines, made from its recent detections."""

import asyncio

from cachetools import TTLCache

from store_svc.database import Database
from store_svc.domain.camera import StoredCamera
from store_svc.domain.camera_scene import camera_places
from store_svc.domain.scene_warnings import needs_detections, warnings_of
from store_svc.domain.zone_suggestions import LABELS
from store_svc.queries.seen_objects import recent_objects

MOST_DETECTIONS = 1000
# Somebody who watches the status asks again and again, and it takes some 10 ms for each camera.
FRESH_SECONDS, MOST_CAMERAS = 30.0, 1000


class SceneWarnings:
    def __init__(self, database: Database) -> None:
        self._database = database
        # By camera and revision.
        self._fresh: TTLCache[tuple[str, int], list[str]] = TTLCache(MOST_CAMERAS, FRESH_SECONDS)

    async def of(self, camera: StoredCamera) -> list[str]:
        """One sentence for each zone and line that is probably drawn wrongly. Detections of the last
        FRESH_SECONDS may not be considered yet."""
        if not camera.scene:
            return []
        key = camera.id, camera.revision
        warnings = self._fresh.get(key)
        if warnings is None:
            warnings = self._fresh[key] = await self._look(camera)
        return warnings

    async def _look(self, camera: StoredCamera) -> list[str]:
        places = camera_places(camera.scene)
        if not needs_detections(places.zones, places.lines):
            return []
        seen = await recent_objects(self._database, camera.id, LABELS, MOST_DETECTIONS)
        objects = [of_event for _, of_event in seen]
        return await asyncio.to_thread(warnings_of, places.zones, places.lines, objects)
