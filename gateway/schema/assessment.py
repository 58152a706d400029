# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""What a judge said of an event, or why it could not."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.reading import read
from lares.reason.v1 import assessment_pb2
from lares.store.v1 import event_service_pb2


@strawberry.enum
class Severity(Enum):
    LOW = assessment_pb2.SEVERITY_LOW
    MEDIUM = assessment_pb2.SEVERITY_MEDIUM
    HIGH = assessment_pb2.SEVERITY_HIGH
    CRITICAL = assessment_pb2.SEVERITY_CRITICAL


@strawberry.type(description="One reason for the score.")
class Factor:
    message: strawberry.Private[assessment_pb2.Factor]
    name: str = read("factor", description="Stable: `class`, `hour`, ...; `reason` for a model's own.")
    points: int = read("points", description="Added to the score; may be negative.")
    text: str = read("text")
    detection_ids: list[strawberry.ID] = read("detection_ids", list, description="What it rests on.")


@strawberry.type
class Assessment:
    message: strawberry.Private[assessment_pb2.Assessment]
    id: strawberry.ID = read("id")
    score: int = read("score", description="0..100.")
    severity: Severity = read("severity")
    summary: str = read("summary")
    reasoner: str = read("reasoner", description="`rules/v1`, or the kind of server that judged.")
    assessed_at: Timestamp = read("assessed_at")
    evidence_digest: str = read("evidence_digest", description="The same evidence has the same digest.")
    rules_score: int = read("rules_score", description="What the rules say of the same evidence, 0..100.")
    model: str = read("model", description="Empty for rules.")
    prompt_hash: str = read("prompt_hash", description="Empty for rules.")
    prompt_tokens: int = read("prompt_tokens", description="0 for rules.")
    cached_tokens: int = read("cached_tokens", description="Those of the prompt that it had read before.")
    completion_tokens: int = read("completion_tokens")
    duration_seconds: float = read("duration", lambda duration: duration.seconds + duration.nanos / 1e9)
    request_id: strawberry.ID | None = read(
        "request_id",
        lambda id: id or None,
        description="Of the `reassessEvent` that asked for it; null where nobody did.",
    )

    @strawberry.field(
        description="The model's answer as it came, cut to 8 KiB; empty for rules. It costs as much as 1000 "
        "other fields."
    )
    async def raw_answer(self, info: Info) -> str:
        return await info.context.loaders.raw_answer.load(self.message.id) if self.message.model else ""

    @strawberry.field
    def factors(self) -> list[Factor]:
        return [Factor(message=factor) for factor in self.message.factors]


@strawberry.type(description="A judgement that came to nothing.")
class Failure:
    message: strawberry.Private[event_service_pb2.EventFailure]
    reason: str = read("reason", description="A stable code, as docs/judging.md lists them.")
    detail: str = read("detail", description="One sentence.")
    failed_at: Timestamp = read("failed_at")
    given_up_request_id: strawberry.ID | None = read(
        "given_up_request_id",
        lambda id: id or None,
        description="Of the `reassessEvent` that was given up with it; null where none was.",
    )
