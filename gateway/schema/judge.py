"""Who judges, and how that goes. Counters since a start are Float, for Int ends at two billion."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.reading import read, read_if_set
from lares.reason.v1 import reason_service_pb2
from mesh.problems import Problem
from mesh.rpc import call

SECONDS = 2.0


@strawberry.enum(
    description="LOADING: it answers, but has not read its model yet. FAILING: it answers badly."
)
class ReasonerState(Enum):
    READY = reason_service_pb2.REASONER_STATE_READY
    LOADING = reason_service_pb2.REASONER_STATE_LOADING
    UNREACHABLE = reason_service_pb2.REASONER_STATE_UNREACHABLE
    FAILING = reason_service_pb2.REASONER_STATE_FAILING


@strawberry.type
class ReasonStatus:
    message: strawberry.Private[reason_service_pb2.GetReasonStatusResponse]
    reasoner: str = read("reasoner", description="`rules/v1`, or the kind of server that judges.")
    state: ReasonerState = read("state")
    detail: str = read("detail", description="Why it is not ready; empty otherwise.")
    since: Timestamp | None = read_if_set("since", description="When it came into this state.")
    model: str = read("model", description="Judges unless another is asked for; empty for rules.")
    models: list[str] = read("models", list, description="Those that a reassessment may ask for.")
    prompt: str = read("prompt", description="Used unless another is asked for; empty for rules.")
    prompts: list[str] = read("prompts", list)
    slots: int = read("slots", description="Events that it takes at the same time.")
    assessing: int = read("assessing", description="Events in hand now.")
    assessed: float = read("assessed", description="Since the start of the process, like all that follow.")
    failed: float = read("failed")
    prompt_tokens: float = read("prompt_tokens")
    cached_tokens: float = read("cached_tokens", description="Prompt tokens that the server knew already.")
    completion_tokens: float = read("completion_tokens")


async def read_judge(info: Info) -> ReasonStatus:
    """UNREACHABLE where even the service that asks the judge does not answer: events just wait then."""
    request = reason_service_pb2.GetReasonStatusRequest()
    try:
        message = await call(info.context.siblings.reason.GetReasonStatus, request, timeout=SECONDS)
    except Problem as problem:
        detail = f"reason_svc does not answer: {problem.message}"
        message = reason_service_pb2.GetReasonStatusResponse(
            state=reason_service_pb2.REASONER_STATE_UNREACHABLE, detail=detail
        )
    return ReasonStatus(message=message)
