"""Requests for another assessment of an event."""

from collections.abc import Sequence

import strawberry

from gateway import replicas
from gateway.context import Info
from gateway.schema.event import Event
from lares.reason.v1 import reason_service_pb2
from lares.reason.v1.reason_service_pb2 import GetReasonStatusResponse
from lares.store.v1 import event_service_pb2
from mesh.problems import Invalid, Unavailable
from mesh.rpc import call

# In these states the reasoner may not know yet which models and prompts it has.
UNCERTAIN_STATES = (
    reason_service_pb2.REASONER_STATE_LOADING,
    reason_service_pb2.REASONER_STATE_UNREACHABLE,
)


@strawberry.input
class ReassessEventInput:
    event_id: strawberry.ID
    request_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="A UUID that you choose: sending the same request again has no further effect. By "
        "default a new one.",
    )
    model: str | None = strawberry.field(
        default=None, description="One of `status.reason.models`; by default the configured model."
    )
    prompt: str | None = strawberry.field(
        default=None, description="One of `status.reason.prompts`; by default the configured prompt."
    )


@strawberry.type
class ReassessEventPayload:
    request_id: strawberry.ID = strawberry.field(
        description="The `requestId` that the new assessment will have."
    )
    event: Event = strawberry.field(description="The event as it is now, before the new assessment.")


async def reassess_event(info: Info, input: ReassessEventInput) -> ReassessEventPayload:
    """Raises Invalid UNKNOWN_MODEL or UNKNOWN_PROMPT, and Unavailable if a model or prompt is named and the
    reasoner cannot be asked about it. A request that names neither needs no reasoner now: it waits for
    one."""
    if input.model or input.prompt:
        reason_status = await replicas.reason_status(info.context.siblings)
        _check(reason_status, input.model or "", input.prompt or "")
    request = event_service_pb2.ReassessEventRequest(
        event_id=input.event_id,
        request_id=input.request_id or "",
        model=input.model or "",
        prompt=input.prompt or "",
    )
    response = await call(info.context.siblings.events.ReassessEvent, request)
    return ReassessEventPayload(
        request_id=strawberry.ID(response.request_id), event=Event(message=response.event)
    )


def _check(status: GetReasonStatusResponse, model: str, prompt: str) -> None:
    if model and model != status.model and model not in status.models:
        raise _unknown(status, "model", model, status.models)
    if prompt and prompt != status.prompt and prompt not in status.prompts:
        raise _unknown(status, "prompt", prompt, status.prompts)
    if prompt and model.startswith("rules/"):
        raise Invalid(f"{model} uses no prompt", "UNKNOWN_PROMPT")


def _unknown(
    status: GetReasonStatusResponse, kind: str, name: str, known: Sequence[str]
) -> Invalid | Unavailable:
    if not known and status.state in UNCERTAIN_STATES:
        return Unavailable(f"the reasoner does not know yet which {kind}s it has", "JUDGE_UNAVAILABLE")
    names = ", ".join(known)
    choice = f"it has {names}" if known else f"{status.reasoner} offers no choice"
    return Invalid(f"the reasoner has no {kind} {name!r}: {choice}", f"UNKNOWN_{kind.upper()}", known=names)
