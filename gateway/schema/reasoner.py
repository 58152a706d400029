"""The reasoner and its state. Counters that begin when the process starts are Float, because Int ends at two
billion."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import replicas
from gateway.context import Info
from gateway.schema.message_fields import message_field, optional_message_field, to_list
from lares.reason.v1 import reason_service_pb2
from mesh.problems import Problem

TIMEOUT_SECONDS = 2.0


@strawberry.enum(
    description="LOADING: the server responds, but has not loaded its model yet. UNREACHABLE: it does not "
    "respond. FAILING: it responds with errors. UNKNOWN: in a state that a newer version of reason_svc has "
    "and this gateway does not know, as during an upgrade."
)
class ReasonerState(Enum):
    READY = reason_service_pb2.REASONER_STATE_READY
    LOADING = reason_service_pb2.REASONER_STATE_LOADING
    UNREACHABLE = reason_service_pb2.REASONER_STATE_UNREACHABLE
    FAILING = reason_service_pb2.REASONER_STATE_FAILING
    UNKNOWN = reason_service_pb2.REASONER_STATE_UNSPECIFIED


@strawberry.type(description="The configured reasoner and its work.")
class ReasonStatus:
    message: strawberry.Private[reason_service_pb2.GetReasonStatusResponse]
    reasoner: str = message_field(
        "reasoner", description="`rules/v2`, or the kind of server that runs the language model."
    )
    state: ReasonerState = message_field("state")
    detail: str = message_field("detail", description="Why it is not ready; empty if it is.")
    since: Timestamp | None = optional_message_field("since", description="When this state began.")
    model: str = message_field(
        "model", description="Used unless a reassessment names another; empty for the rules."
    )
    models: list[str] = message_field("models", to_list, description="Models that a reassessment may name.")
    prompt: str = message_field(
        "prompt", description="Used unless a reassessment names another; empty for the rules."
    )
    prompts: list[str] = message_field(
        "prompts", to_list, description="Prompts that a reassessment may name."
    )
    slots: int = message_field("slots", description="How many events it assesses at the same time.")
    assessing: int = message_field("assessing", description="How many events it is assessing now.")
    assessed: float = message_field(
        "assessed", description="Since the process started, like all numbers that follow."
    )
    failed: float = message_field("failed")
    prompt_tokens: float = message_field("prompt_tokens")
    cached_tokens: float = message_field(
        "cached_tokens", description="Tokens of prompts that the server had in its cache."
    )
    completion_tokens: float = message_field("completion_tokens")


async def read_reason_status(info: Info) -> ReasonStatus:
    """Returns the state UNREACHABLE if reason_svc itself does not respond. This is no error for the client:
    events wait until it does."""
    try:
        message = await replicas.reason_status(info.context.siblings, TIMEOUT_SECONDS)
    except Problem as problem:
        detail = f"reason_svc does not respond: {problem.message}"
        message = reason_service_pb2.GetReasonStatusResponse(
            state=reason_service_pb2.REASONER_STATE_UNREACHABLE, detail=detail
        )
    return ReasonStatus(message=message)
