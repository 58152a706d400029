# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What people say of assessments."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.message_fields import message_field
from gateway.schema.severity import Severity
from lares.reason.v1.assessment_pb2 import SEVERITY_UNSPECIFIED
from lares.store.v1 import event_service_pb2
from mesh.rpc import call


@strawberry.enum(
    description="RIGHT: the severity was right. FALSE_ALARM: nobody had to look. MISSED: it mattered, and "
    "the severity was LOW. WRONG_SEVERITY: it mattered more or less than that."
)
class FeedbackKind(Enum):
    RIGHT = event_service_pb2.FEEDBACK_KIND_RIGHT
    FALSE_ALARM = event_service_pb2.FEEDBACK_KIND_FALSE_ALARM
    MISSED = event_service_pb2.FEEDBACK_KIND_MISSED
    WRONG_SEVERITY = event_service_pb2.FEEDBACK_KIND_WRONG_SEVERITY


@strawberry.type(description="What somebody said of an assessment.")
class Feedback:
    message: strawberry.Private[event_service_pb2.Feedback]
    kind: FeedbackKind = message_field("kind")
    severity: Severity = message_field("severity", description="The severity that would have been right.")
    note: str = message_field("note")
    given_at: Timestamp = message_field("given_at")
    assessment_id: strawberry.ID = message_field("assessment_id")
    event_id: strawberry.ID = message_field("event_id")


@strawberry.input
class EventFeedbackInput:
    event_id: strawberry.ID
    kind: FeedbackKind
    assessment_id: strawberry.ID | None = strawberry.field(
        default=None, description="One of the event's assessments; by default the current one."
    )
    severity: Severity | None = strawberry.field(
        default=None,
        description="The severity that would have been right: needed for WRONG_SEVERITY; MEDIUM by default "
        "for MISSED; not to be given otherwise.",
    )
    note: str = ""


@strawberry.type
class EventFeedbackPayload:
    feedback: Feedback


async def event_feedback(info: Info, input: EventFeedbackInput) -> EventFeedbackPayload:
    request = event_service_pb2.SetFeedbackRequest(
        event_id=input.event_id,
        assessment_id=input.assessment_id or "",
        kind=input.kind.value,
        severity=input.severity.value if input.severity else SEVERITY_UNSPECIFIED,
        note=input.note,
    )
    response = await call(info.context.siblings.events.SetFeedback, request)
    return EventFeedbackPayload(feedback=Feedback(message=response.feedback))
