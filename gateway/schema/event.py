# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""Events: what one camera saw in one stretch of time."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.assessment import Assessment, Failure
from gateway.schema.camera import Camera
from gateway.schema.evidence import EventEvidence
from gateway.schema.media import IN_ZONES, ON_DEMAND, Detection, Media, load_camera, load_detections
from gateway.schema.message_fields import (
    computed_field,
    is_uuid,
    message_field,
    optional_message_field,
    to_list,
)
from gateway.schema.paging import (
    LARGEST_ASSESSMENT_PAGE,
    PAGE,
    Connection,
    connect,
    page_size,
)
from gateway.schema.severity import Severity
from lares.store.v1 import event_pb2, event_service_pb2
from mesh.media_types import is_clip
from mesh.permissions import READ
from mesh.problems import NotFound
from mesh.rpc import call
from mesh.security import current_caller


@strawberry.enum(
    description="PENDING: not assessed yet. FAILED: the attempts to assess it were given up; see "
    "`lastFailure`."
)
class EventStatus(Enum):
    PENDING = event_pb2.EVENT_STATUS_PENDING
    ASSESSED = event_pb2.EVENT_STATUS_ASSESSED
    FAILED = event_pb2.EVENT_STATUS_FAILED


@strawberry.type(
    description="What one camera saw in one stretch of time: detections that lie close together."
)
class Event:
    message: strawberry.Private[event_pb2.Event]
    id: strawberry.ID = message_field("id")
    status: EventStatus = message_field("status")
    revision: int = message_field("revision", description="Counts the changes of this event, from 1.")
    sequence: str = message_field("sequence", str, description="The cursor of its latest change in the feed.")
    started_at: Timestamp = message_field("started_at")
    ended_at: Timestamp = message_field("ended_at")
    closed: bool = message_field("closed", description="No later detection can become part of it.")
    labels: list[str] = message_field(
        "labels",
        to_list,
        description="The labels of its detections, or of the vehicles that have left, sorted, each once.",
    )

    zones: list[strawberry.ID] = message_field(
        "zone_ids",
        to_list,
        description="The ids of the zones that its detections are in, as they were then, sorted, each once.",
    )

    assessment: Assessment | None = optional_message_field(
        "assessment", of=Assessment, description="Null until the event is assessed."
    )

    @strawberry.field(
        description="All assessments of this event, the one recorded last first. `assessment` is not always "
        "the first of them."
    )
    async def assessments(
        self, info: Info, first: int | None = PAGE, after: str | None = None
    ) -> Connection[Assessment]:
        size = page_size(first, LARGEST_ASSESSMENT_PAGE)
        page = await info.context.loaders.assessments.load((self.message.id, size, after or ""))
        return connect(Assessment, page.assessments, page)

    @strawberry.field(
        description="What its next assessment is made from. Null if what is stored of it is damaged."
    )
    async def evidence(self, info: Info) -> EventEvidence | None:
        evidence = await info.context.loaders.evidence.load(self.message.id)
        return EventEvidence(message=evidence) if evidence else None

    @strawberry.field(description="Null if no attempt has failed since the last assessment that succeeded.")
    async def last_failure(self, info: Info) -> Failure | None:
        failure = await info.context.loaders.failure.load(self.message.id)
        return Failure(message=failure) if failure else None

    @strawberry.field
    async def camera(self, info: Info) -> Camera:
        return await load_camera(info, self.message.camera_id, self.message.camera_name)

    @strawberry.field(description="In order of capture; those of one time by score, best first. " + IN_ZONES)
    async def detections(
        self,
        info: Info,
        first: int | None = PAGE,
        after: str | None = None,
        zone_ids: list[strawberry.ID] | None = None,
    ) -> Connection[Detection]:
        loader = info.context.loaders.event_detections
        return await load_detections(info, loader, "event_id", self.message.id, first, after, zone_ids)

    preview_url: str | None = computed_field(
        lambda event: f"/events/{event.id}/preview" if event.detection_count else None,
        description="The path of a small animated picture of its frames with boxes on this server; null if "
        f"it has no detections. {ON_DEMAND}",
    )

    @strawberry.field(
        description="The path on this server of what clips show of it, with some seconds before and after; "
        f"null if no clip does. {ON_DEMAND}"
    )
    async def clip_url(self, info: Info) -> str | None:
        media = await info.context.loaders.event_media.load(self.message.id)
        clips = any(is_clip(stored.media.type) for stored in media)
        return f"/events/{self.message.id}/clip" if clips else None

    @strawberry.field(description="In order of capture.")
    async def media(self, info: Info) -> list[Media]:
        media = await info.context.loaders.event_media.load(self.message.id)
        return [Media(message=stored) for stored in media]


@strawberry.input(
    description="An event must fulfil all conditions that are given. Null sets no condition; an empty list "
    "matches nothing."
)
class EventFilter:
    camera_ids: list[strawberry.ID] | None = None
    labels: list[str] | None = strawberry.field(
        default=None,
        description="The event has at least one of these labels, in any spelling. An unknown label is "
        "an error.",
    )
    zone_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="The event has a detection in at least one of these zones. The id of a zone is unique "
        "only within its camera.",
    )
    severities: list[Severity] | None = None
    statuses: list[EventStatus] | None = None
    started_after: Timestamp | None = strawberry.field(default=None, description="Inclusive.")
    started_before: Timestamp | None = strawberry.field(default=None, description="Exclusive.")

    @property
    def matches_nothing(self) -> bool:
        """Whether a list is empty. An EventFilter message cannot say that."""
        return [] in (self.camera_ids, self.labels, self.zone_ids, self.severities, self.statuses)

    def message(self) -> event_service_pb2.EventFilter:
        return event_service_pb2.EventFilter(
            camera_ids=self.camera_ids or [],
            labels=self.labels or [],
            zone_ids=self.zone_ids or [],
            severities=[severity.value for severity in self.severities or []],
            statuses=[status.value for status in self.statuses or []],
            started_after=self.started_after,
            started_before=self.started_before,
        )


async def get_event(info: Info, id: strawberry.ID) -> Event | None:
    if not is_uuid(id):
        return None
    try:
        request = event_service_pb2.GetEventRequest(event_id=id)
        return Event(message=(await call(info.context.siblings.events.GetEvent, request)).event)
    except NotFound:
        return None


async def list_events(
    info: Info, first: int | None = PAGE, after: str | None = None, filter: EventFilter | None = None
) -> Connection[Event]:
    size = page_size(first)
    if filter and filter.matches_nothing:
        current_caller().require(READ)
        return connect(Event, [], event_service_pb2.ListEventsResponse())
    request = event_service_pb2.ListEventsRequest(
        filter=filter.message() if filter else None, page_size=size, page_token=after or ""
    )
    response = await call(info.context.siblings.events.ListEvents, request)
    return connect(Event, response.events, response)
