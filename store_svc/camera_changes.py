"""What a message asks to change of a camera: the fields that are set, or those that its mask names."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from lares.store.v1.camera_pb2 import Camera
from mesh.problems import Invalid
from store_svc.camera import SETTINGS

EVERYTHING = "*"


def settings_of(camera: Camera) -> dict[str, Any]:
    """All settings, as CreateCamera gives them: what the message does not set has its default."""
    return {
        "display_name": camera.display_name if camera.HasField("display_name") else camera.id,
        "time_zone": camera.time_zone,
        "enabled": camera.enabled if camera.HasField("enabled") else True,
        "thresholds": dict(camera.thresholds),
    }


def changes_of(camera: Camera, mask: FieldMask) -> Mapping[str, Any]:
    """The settings to change, by name. Without a mask those that the message sets, so that a client which was
    built before a setting existed cannot erase it; a map is never among them. Raises Invalid BAD_FIELD_MASK
    for a path that is no setting, or `*` beside others, and NOTHING_TO_UPDATE where nothing is set."""
    settings = settings_of(camera)
    paths = set(mask.paths)
    if paths == {EVERYTHING}:
        return settings
    if unknown := sorted(paths.difference(SETTINGS)):
        raise Invalid(f"these are no settings of a camera: {', '.join(unknown)}", "BAD_FIELD_MASK")
    if not paths:
        set_fields = {field.name for field, _ in camera.ListFields() if field.has_presence}
        paths = set_fields.intersection(SETTINGS)
    if not paths:
        raise Invalid("nothing is set: maps change only when update_mask names them", "NOTHING_TO_UPDATE")
    return {name: settings[name] for name in SETTINGS if name in paths}
