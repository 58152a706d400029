"""Asking for another judgement."""

from collections.abc import Sequence

import strawberry

from gateway.context import Info
from gateway.schema.event import Event
from lares.reason.v1 import reason_service_pb2
from lares.store.v1 import event_service_pb2
from mesh.problems import Invalid, Unavailable
from mesh.rpc import call

# A judge in these states may not know yet what it has.
UNSURE = (reason_service_pb2.REASONER_STATE_LOADING, reason_service_pb2.REASONER_STATE_UNREACHABLE)

Judge = reason_service_pb2.GetReasonStatusResponse


@strawberry.input
class ReassessEventInput:
    event_id: strawberry.ID
    request_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="A UUID that you choose: the same request twice is one. By default a fresh one.",
    )
    model: str | None = strawberry.field(
        default=None, description="One of `status.reason.models`; by default the configured one."
    )
    prompt: str | None = strawberry.field(
        default=None, description="One of `status.reason.prompts`; by default the configured one."
    )


@strawberry.type
class ReassessEventPayload:
    request_id: strawberry.ID = strawberry.field(description="The `requestId` of the assessment to come.")
    event: Event = strawberry.field(description="As it is now: nobody has judged again yet.")


async def reassess_event(info: Info, input: ReassessEventInput) -> ReassessEventPayload:
    """Raises Invalid UNKNOWN_MODEL or UNKNOWN_PROMPT, and Unavailable where somebody wishes for one of them
    and the judge cannot be asked. Without a wish the judge may be away: the request waits for it."""
    if input.model or input.prompt:
        _check(await _judge(info), input.model or "", input.prompt or "")
    request = event_service_pb2.ReassessEventRequest(
        event_id=input.event_id,
        request_id=input.request_id or "",
        model=input.model or "",
        prompt=input.prompt or "",
    )
    answer = await call(info.context.siblings.events.ReassessEvent, request)
    return ReassessEventPayload(
        request_id=strawberry.ID(answer.request_id), event=Event(message=answer.event)
    )


async def _judge(info: Info) -> Judge:
    return await call(
        info.context.siblings.reason.GetReasonStatus, reason_service_pb2.GetReasonStatusRequest()
    )


def _check(judge: Judge, model: str, prompt: str) -> None:
    if model and model != judge.model and model not in judge.models:
        raise _unknown(judge, "model", model, judge.models)
    if prompt and prompt != judge.prompt and prompt not in judge.prompts:
        raise _unknown(judge, "prompt", prompt, judge.prompts)
    if prompt and model.startswith("rules/"):
        raise Invalid(f"{model} is asked by no prompt", "UNKNOWN_PROMPT")


def _unknown(judge: Judge, kind: str, wish: str, known: Sequence[str]) -> Invalid | Unavailable:
    if not known and judge.state in UNSURE:
        return Unavailable(f"the judge cannot tell now which {kind}s it has", "JUDGE_UNAVAILABLE")
    there = ", ".join(known)
    has = f"it has {there}" if known else f"{judge.reasoner} has none to choose from"
    return Invalid(f"the judge has no {kind} {wish!r}: {has}", f"UNKNOWN_{kind.upper()}", known=there)
