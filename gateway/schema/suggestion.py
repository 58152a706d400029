# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""Proposed zones of a camera."""

import strawberry

from gateway.context import Info
from gateway.schema.message_fields import message_field
from gateway.schema.scene import CameraZoneKind, PicturePoint
from lares.store.v1 import camera_service_pb2
from mesh.rpc import call


@strawberry.type(
    description="A zone that can be passed to `updateCamera` as it is, behind the zones that the camera has."
)
class ZoneSuggestion:
    message: strawberry.Private[camera_service_pb2.ZoneSuggestion]
    id: strawberry.ID = message_field("zone.id")
    name: str = message_field("zone.name")
    kind: CameraZoneKind = message_field("zone.kind")
    polygon: list[PicturePoint] = message_field("zone.polygon", list_of=PicturePoint)
    why: str = message_field("why", description="A sentence that says what was seen there.")
    people: int = message_field("people", description="Detections of people.")
    vehicles: int = message_field("vehicles", description="Detections of vehicles.")
    events: int = message_field("events", description="The events that these detections are of.")


async def suggest_zones(info: Info, camera_id: strawberry.ID) -> list[ZoneSuggestion]:
    """Raises NotFound CAMERA_NOT_FOUND."""
    request = camera_service_pb2.SuggestZonesRequest(camera_id=camera_id)
    response = await call(info.context.siblings.cameras.SuggestZones, request)
    return [ZoneSuggestion(message=suggestion) for suggestion in response.suggestions]
