# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""Assessments of events, and attempts that failed."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.feedback import Feedback
from gateway.schema.message_fields import message_field, to_list
from gateway.schema.severity import Severity
from lares.reason.v1 import assessment_pb2
from lares.store.v1 import event_service_pb2


@strawberry.enum(description="How far a language model's own score is from that of the rules.")
class Disagreement(Enum):
    NONE = strawberry.enum_value(assessment_pb2.DISAGREEMENT_NONE, description="The same severity.")
    SMALL = strawberry.enum_value(assessment_pb2.DISAGREEMENT_SMALL, description="Neighbouring severities.")
    LARGE = strawberry.enum_value(
        assessment_pb2.DISAGREEMENT_LARGE, description="Two or more severities apart: worth a look."
    )


@strawberry.type(description="One reason for the score.")
class Factor:
    message: strawberry.Private[assessment_pb2.Factor]
    name: str = message_field(
        "factor",
        description="A stable name: `class`, `hour` and so on; `reason` if a language model gave the reason "
        "in its own words.",
    )
    points: int = message_field("points", description="Added to the score; may be negative.")
    text: str = message_field("text")
    detection_ids: list[strawberry.ID] = message_field(
        "detection_ids", to_list, description="The detections that this factor is about."
    )


@strawberry.type(description="What a reasoner says of one event.")
class Assessment:
    message: strawberry.Private[assessment_pb2.Assessment]
    id: strawberry.ID = message_field("id")
    score: int = message_field("score", description="0 to 100.")
    severity: Severity = message_field("severity")
    summary: str = message_field("summary")
    reasoner: str = message_field(
        "reasoner", description="`rules/v2`, or the kind of server that ran the language model."
    )
    assessed_at: Timestamp = message_field("assessed_at")
    evidence_digest: str = message_field(
        "evidence_digest", description="Identifies the evidence: equal evidence has an equal digest."
    )
    rules_score: int = message_field(
        "rules_score", description="The score that the rules give the same evidence, 0 to 100."
    )
    disagreement: Disagreement | None = message_field(
        "disagreement",
        lambda value: value or None,
        description="Null for the rules, and for assessments of earlier versions.",
    )
    model: str = message_field("model", description="The language model; empty for the rules.")
    prompt_hash: str = message_field(
        "prompt_hash", description="Identifies the text of the prompt; empty for the rules."
    )
    prompt_tokens: int = message_field("prompt_tokens", description="0 for the rules.")
    cached_tokens: int = message_field(
        "cached_tokens", description="Tokens of the prompt that the server had in its cache."
    )
    completion_tokens: int = message_field("completion_tokens")
    duration_seconds: float = message_field(
        "duration", lambda duration: duration.seconds + duration.nanos / 1e9
    )
    request_id: strawberry.ID | None = message_field(
        "request_id",
        lambda id: id or None,
        description="The `requestId` of the `reassessEvent` that requested it; null if nobody requested it.",
    )

    @strawberry.field(
        description="The text that the language model returned, cut to 8 KiB; empty for the rules. Selecting "
        "it costs as much as 1000 other fields."
    )
    async def raw_answer(self, info: Info) -> str:
        return await info.context.loaders.raw_answer.load(self.message.id) if self.message.model else ""

    factors: list[Factor] = message_field("factors", list_of=Factor)

    @strawberry.field(description="What somebody said of it last; null if nobody has said anything.")
    async def feedback(self, info: Info) -> Feedback | None:
        feedback = await info.context.loaders.feedback.load(self.message.id)
        return Feedback(message=feedback) if feedback else None


@strawberry.type(description="An attempt to assess an event that failed.")
class Failure:
    message: strawberry.Private[event_service_pb2.EventFailure]
    reason: str = message_field("reason", description="A stable code; docs/judging.md lists them.")
    detail: str = message_field("detail", description="One sentence.")
    failed_at: Timestamp = message_field("failed_at")
    given_up_request_id: strawberry.ID | None = message_field(
        "given_up_request_id",
        lambda id: id or None,
        description="The `requestId` of the `reassessEvent` that was given up after this attempt; null if "
        "none was.",
    )
