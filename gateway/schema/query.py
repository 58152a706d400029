"""The root type of queries."""

import strawberry

from gateway.schema.camera import Camera, get_camera, list_cameras
from gateway.schema.event import Event, get_event, list_events
from gateway.schema.expected_visit import HouseVisit, SiteNote, list_expected_visits, list_site_notes
from gateway.schema.media import Media, get_media, list_media
from gateway.schema.mode import (
    HouseMode,
    ModeChange,
    ModeSchedule,
    list_mode_changes,
    read_mode,
    read_mode_schedule,
)
from gateway.schema.paging import Connection
from gateway.schema.people import Person, Presence, list_people, read_presence
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
    mode: HouseMode = strawberry.field(
        resolver=read_mode, description="The mode of the house now, or `at` an earlier time."
    )
    mode_changes: Connection[ModeChange] = strawberry.field(
        resolver=list_mode_changes,
        description="Changes of the mode, by people and by the schedule, newest first.",
    )
    mode_schedule: ModeSchedule = strawberry.field(resolver=read_mode_schedule)
    people: list[Person] = strawberry.field(resolver=list_people, description="By name.")
    presence: Presence = strawberry.field(
        resolver=read_presence, description="Who is present, and all reports of it."
    )
    expected_visits: list[HouseVisit] = strawberry.field(
        resolver=list_expected_visits, description="By name."
    )
    site_notes: list[SiteNote] = strawberry.field(resolver=list_site_notes)
    status: Status = strawberry.field(resolver=read_status)
