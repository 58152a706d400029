"""The root type of queries."""

import strawberry

from gateway.schema.camera import Camera, get_camera, list_cameras
from gateway.schema.event import Event, get_event, list_events
from gateway.schema.media import Media, get_media, list_media
from gateway.schema.paging import Connection
from gateway.schema.preview import PolicyPreview, preview_policy
from gateway.schema.rejection import Rejection, list_rejections
from gateway.schema.status import Status, read_status
from gateway.schema.suggestion import ZoneSuggestion, suggest_zones


@strawberry.type
class Query:
    cameras: list[Camera] = strawberry.field(
        resolver=list_cameras, description="All cameras, in order of id."
    )
    camera: Camera | None = strawberry.field(resolver=get_camera)
    events: Connection[Event] = strawberry.field(resolver=list_events, description="Newest first.")
    event: Event | None = strawberry.field(resolver=get_event)
    media: Media | None = strawberry.field(resolver=get_media)
    media_list: Connection[Media] = strawberry.field(
        resolver=list_media, description="In order of capture, newest first."
    )
    rejections: Connection[Rejection] = strawberry.field(
        resolver=list_rejections,
        description="Newest first, without those of files that were taken later, for example after a slow"
        " upload.",
    )
    preview_policy: PolicyPreview = strawberry.field(
        resolver=preview_policy,
        description="Shows which findings in this camera's newest frames (20, or `frames`, at most 200) "
        "would count with these settings. Nothing is changed.",
    )
    suggest_zones: list[ZoneSuggestion] = strawberry.field(
        resolver=suggest_zones,
        description="Proposes zones for what is in no zone of the camera yet, from where people and vehicles "
        "touched the ground on the last day on which it saw any. Nothing is changed.",
    )
    status: Status = strawberry.field(resolver=read_status)
