"""One camera's configuration, and how it changes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from store_svc.domain.camera_scene import SCENE_SETTINGS, changed_scene
from store_svc.domain.wall_clock import time_zone_of

# The fields that clients can change: the paths of an update mask.
SETTINGS = ("display_name", "time_zone", "enabled", "thresholds", *SCENE_SETTINGS)


@dataclass(frozen=True, slots=True)
class StoredCamera:
    """A row of `cameras`.

    An empty `time_zone` means the setting LARES_TIME_ZONE. `thresholds` are the lowest scores by label.
    `scene` is a serialised CameraScene, empty if nothing in it is configured. `revision` counts from 1.
    """

    id: str
    display_name: str
    time_zone: str
    enabled: bool
    thresholds: Mapping[str, float]
    revision: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    scene: bytes = b""

    def with_changes(self, now: datetime, **changes: Any) -> "StoredCamera":
        """Returns the next revision, with changes by the names in SETTINGS, or of columns. Raises Invalid, as
        `validate` and `changed_scene` do."""
        parts = {name: changes.pop(name) for name in SCENE_SETTINGS if name in changes}
        scene = changed_scene(self.scene, parts) if parts else self.scene
        changed = replace(self, revision=self.revision + 1, updated_at=now, scene=scene, **changes)
        changed.validate()
        return changed

    def validate(self) -> None:
        """Raises Invalid (BAD_TIME_ZONE) if the time zone is not an IANA name."""
        if self.time_zone:
            time_zone_of(self.time_zone)


def new_camera(id: str, display_name: str, now: datetime) -> StoredCamera:
    """Returns the configuration of a camera that its first photo creates."""
    return StoredCamera(id, display_name or id, "", True, {}, 1, now, now)
