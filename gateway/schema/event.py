# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""Events: what happened in front of a camera, and how much it matters."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.assessment import Assessment, Failure, Severity
from gateway.schema.camera import Camera
from gateway.schema.media import Detection, Media, connect_detections, load_camera
from gateway.schema.paging import (
    LARGEST_ASSESSMENT_PAGE,
    LARGEST_DETECTION_PAGE,
    PAGE,
    Connection,
    connect,
    page_size,
)
from gateway.schema.reading import known_form, read
from lares.store.v1 import event_pb2, event_service_pb2
from lares.store.v1.detection_service_pb2 import ListDetectionsRequest
from mesh.problems import NotFound
from mesh.rpc import call


@strawberry.enum
class EventStatus(Enum):
    PENDING = event_pb2.EVENT_STATUS_PENDING
    ASSESSED = event_pb2.EVENT_STATUS_ASSESSED
    FAILED = event_pb2.EVENT_STATUS_FAILED


@strawberry.type
class Event:
    message: strawberry.Private[event_pb2.Event]
    id: strawberry.ID = read("id")
    status: EventStatus = read("status")
    revision: int = read("revision", description="Counts the changes of this event, from 1.")
    sequence: str = read("sequence", str, description="The cursor of its latest change.")
    started_at: Timestamp = read("started_at")
    ended_at: Timestamp = read("ended_at")
    closed: bool = read("closed")
    labels: list[str] = read("labels", list, description="Sorted, distinct.")

    @strawberry.field(description="Null until somebody has judged.")
    def assessment(self) -> Assessment | None:
        return Assessment(message=self.message.assessment) if self.message.HasField("assessment") else None

    @strawberry.field(
        description="All judgements, the last recorded first; `assessment` is not always the first of them."
    )
    async def assessments(
        self, info: Info, first: int | None = PAGE, after: str | None = None
    ) -> Connection[Assessment]:
        size = page_size(first, LARGEST_ASSESSMENT_PAGE)
        page = await info.context.loaders.assessments.load((self.message.id, size, after or ""))
        return connect(Assessment, page.assessments, page)

    @strawberry.field(description="Null where none came after the last judgement that succeeded.")
    async def last_failure(self, info: Info) -> Failure | None:
        failure = await info.context.loaders.failure.load(self.message.id)
        return Failure(message=failure) if failure else None

    @strawberry.field
    async def camera(self, info: Info) -> Camera:
        return await load_camera(info, self.message.camera_id, self.message.camera_name)

    @strawberry.field(description="Oldest capture first, then best score.")
    async def detections(
        self, info: Info, first: int | None = PAGE, after: str | None = None
    ) -> Connection[Detection]:
        size = page_size(first, LARGEST_DETECTION_PAGE)
        if after:
            request = ListDetectionsRequest(event_id=self.message.id, page_size=size, page_token=after)
            return connect_detections(await call(info.context.siblings.detections.ListDetections, request))
        return connect_detections(await info.context.loaders.event_detections.load((self.message.id, size)))

    @strawberry.field(description="Oldest capture first.")
    async def media(self, info: Info) -> list[Media]:
        media = await info.context.loaders.event_media.load(self.message.id)
        return [Media(message=stored) for stored in media]


@strawberry.input(description="Everything that is given must hold.")
class EventFilter:
    camera_ids: list[strawberry.ID] | None = None
    labels: list[str] | None = strawberry.field(default=None, description="At least one of these.")
    severities: list[Severity] | None = None
    statuses: list[EventStatus] | None = None
    started_after: Timestamp | None = strawberry.field(default=None, description="Inclusive.")
    started_before: Timestamp | None = strawberry.field(default=None, description="Exclusive.")

    def message(self) -> event_service_pb2.EventFilter:
        return event_service_pb2.EventFilter(
            camera_ids=self.camera_ids or [],
            labels=self.labels or [],
            severities=[severity.value for severity in self.severities or []],
            statuses=[status.value for status in self.statuses or []],
            started_after=self.started_after,
            started_before=self.started_before,
        )


async def get_event(info: Info, id: strawberry.ID) -> Event | None:
    if not known_form(id):
        return None
    try:
        request = event_service_pb2.GetEventRequest(event_id=id)
        return Event(message=(await call(info.context.siblings.events.GetEvent, request)).event)
    except NotFound:
        return None


async def list_events(
    info: Info, first: int | None = PAGE, after: str | None = None, filter: EventFilter | None = None
) -> Connection[Event]:
    request = event_service_pb2.ListEventsRequest(
        filter=filter.message() if filter else None, page_size=page_size(first), page_token=after or ""
    )
    answer = await call(info.context.siblings.events.ListEvents, request)
    return connect(Event, answer.events, answer)
