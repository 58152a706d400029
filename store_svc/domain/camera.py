"""One camera's configuration, and how it changes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from mesh.problems import Invalid

# What people may change: the paths of an update mask.
SETTINGS = ("display_name", "time_zone", "enabled", "thresholds")


@dataclass(frozen=True, slots=True)
class StoredCamera:
    """`time_zone` '' means the host's; `thresholds` are least scores by label; `revision` counts from 1."""

    id: str
    display_name: str
    time_zone: str
    enabled: bool
    thresholds: Mapping[str, float]
    revision: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    def with_changes(self, now: datetime, **changes: Any) -> "StoredCamera":
        """Raises Invalid for a time zone that IANA does not know."""
        changed = replace(self, revision=self.revision + 1, updated_at=now, **changes)
        changed.validate()
        return changed

    def validate(self) -> None:
        if self.time_zone and self.time_zone not in available_timezones():
            sentence = f"{self.time_zone!r} is no IANA time zone, such as Europe/Berlin"
            raise Invalid(sentence, "BAD_TIME_ZONE", field="time_zone")


def new_camera(id: str, display_name: str, now: datetime) -> StoredCamera:
    """As a photo of an unknown camera makes it."""
    return StoredCamera(id, display_name or id, "", True, {}, 1, now, now)
