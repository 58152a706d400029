"""`lares judge`: has stored events assessed again, by another model or prompt, and says what would change."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from deploy.client import open_client
from lares.reason.v1.assessment_pb2 import Assessment, Severity
from lares.reason.v1.evidence_pb2 import Evidence
from lares.reason.v1.reason_service_pb2 import AssessEventRequest
from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceStub
from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED, Event
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from mesh.config import Config
from mesh.problems import Exhausted, Invalid
from mesh.retry import retry
from mesh.rpc import Metadata, call
from mesh.visible_text import visible

if TYPE_CHECKING:
    from lares.reason.v1.reason_service_pb2_grpc import ReasonServiceAsyncStub
    from lares.store.v1.event_service_pb2_grpc import EventServiceAsyncStub

PAGE = 100
# The least score of each severity in the form of labelled events (tests/judge).
LEAST_SCORES = {"LOW": 0, "MEDIUM": 30, "HIGH": 60, "CRITICAL": 85}
# A language model may take minutes for one event.
ASSESS_SECONDS = 900.0


@dataclass(frozen=True)
class Choice:
    """Which events: those with these ids, or else the newest `last` of those that are assessed. By which
    model and prompt; empty means the configured one."""

    event_ids: Sequence[str]
    last: int
    model: str
    prompt: str


@dataclass(frozen=True)
class Comparison:
    event: Event
    now: Assessment

    @property
    def before(self) -> Assessment:
        return self.event.assessment

    @property
    def changes_severity(self) -> bool:
        return self.now.severity != self.before.severity


async def compare(config: Config, choice: Choice, apply: bool) -> None:
    """Prints a line for each event whose severity would change, then a summary. With `apply`, requests a
    reassessment of those events. Nothing else is stored.

    Raises NotFound for an id that is no event, Invalid UNKNOWN_MODEL or UNKNOWN_PROMPT, and Unavailable.
    """
    async with open_client(config) as (channel, key):
        events, reason = EventServiceStub(channel), ReasonServiceStub(channel)
        compared: list[Comparison] = []
        async for event in _events(events, choice, key):
            evidence = await _evidence(events, event.id, key)
            comparison = Comparison(event, await _assess(reason, evidence, choice, key))
            compared.append(comparison)
            if comparison.changes_severity:
                print(_line(comparison), flush=True)
        feedback = await _feedback_on(events, [each.before.id for each in compared], key)
        print(_summary(compared, feedback))
        if apply:
            changed = [each for each in compared if each.changes_severity]
            for each in changed:
                request = pb.ReassessEventRequest(
                    event_id=each.event.id, model=choice.model, prompt=choice.prompt
                )
                await call(events.ReassessEvent, request, headers=key)
            print(f"reassessment of {_events_text(len(changed))} requested")


async def export(config: Config, path: Path) -> None:
    """Writes the events that have feedback in the form of labelled events, one JSON object a line, as
    `make judge ARGS="--events FILE --evidence all"` reads them. Raises Unavailable, Invalid NOT_WRITTEN."""
    async with open_client(config) as (channel, key):
        events = EventServiceStub(channel)
        lines, seen = list[str](), set[str]()
        async for feedback in _all_feedback(events, key):
            if feedback.event_id not in seen:  # what was said last of an event counts
                seen.add(feedback.event_id)
                evidence = await _evidence(events, feedback.event_id, key)
                lines.append(json.dumps(_labelled(feedback, evidence), ensure_ascii=False))
        try:
            path.write_text("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror or error}", "NOT_WRITTEN") from None
        print(f"{_events_text(len(lines))} written to {path}")


def _labelled(feedback: pb.Feedback, evidence: Evidence) -> dict[str, Any]:
    floor = Severity.Name(feedback.severity).removeprefix("SEVERITY_")
    return {
        "id": feedback.event_id,
        "scenario": evidence.camera_id,
        "kind": "home",
        "about": feedback.note,
        "floor": floor,
        "floor_score": LEAST_SCORES[floor],
        "benign": floor == "LOW",
        "decidable_today": True,
        "needs": [],
        "uses": [],
        "pair": None,
        "injected": False,
        "evidence": MessageToDict(evidence),
        "context": {},
    }


async def _events(events: "EventServiceAsyncStub", choice: Choice, key: Metadata) -> AsyncIterator[Event]:
    if choice.event_ids:
        for id in choice.event_ids:
            event = (await call(events.GetEvent, pb.GetEventRequest(event_id=id), headers=key)).event
            if event.HasField("assessment"):
                yield event
            else:
                print(f"{id} has no assessment yet")
        return
    left, token = choice.last, ""
    while left > 0:
        request = pb.ListEventsRequest(
            filter=pb.EventFilter(statuses=[EVENT_STATUS_ASSESSED]),
            page_size=min(left, PAGE),
            page_token=token,
        )
        page = await call(events.ListEvents, request, headers=key)
        for event in page.events:
            yield event
        left, token = left - len(page.events), page.next_page_token
        if not token:
            return


async def _evidence(events: "EventServiceAsyncStub", event_id: str, key: Metadata) -> Evidence:
    return (await call(events.GetEvidence, pb.GetEvidenceRequest(event_id=event_id), headers=key)).evidence


async def _assess(
    reason: "ReasonServiceAsyncStub", evidence: Evidence, choice: Choice, key: Metadata
) -> Assessment:
    """Waits while the reasoner has too much to do."""
    request = AssessEventRequest(evidence=evidence, model=choice.model, prompt=choice.prompt)

    async def assess() -> Assessment:
        response = await call(reason.AssessEvent, request, headers=key, timeout=ASSESS_SECONDS)
        return response.assessment

    return await retry(assess, "assess an event", retry_on=lambda error: isinstance(error, Exhausted))


async def _feedback_on(
    events: "EventServiceAsyncStub", assessment_ids: Sequence[str], key: Metadata
) -> dict[str, pb.Feedback]:
    found: dict[str, pb.Feedback] = {}
    for start in range(0, len(assessment_ids), PAGE):
        request = pb.BatchGetFeedbackRequest(assessment_ids=assessment_ids[start : start + PAGE])
        response = await call(events.BatchGetFeedback, request, headers=key)
        found |= {each.assessment_id: each for each in response.feedback}
    return found


async def _all_feedback(events: "EventServiceAsyncStub", key: Metadata) -> AsyncIterator[pb.Feedback]:
    token = ""
    while True:
        request = pb.ListFeedbackRequest(page_size=PAGE, page_token=token)
        page = await call(events.ListFeedback, request, headers=key)
        for feedback in page.feedback:
            yield feedback
        if not (token := page.next_page_token):
            return


def _line(comparison: Comparison) -> str:
    event, before, now = comparison.event, comparison.before, comparison.now
    started = event.started_at.ToDatetime().isoformat(" ", "seconds")
    scores = f"{before.score:3} {_word(before)} -> {now.score:3} {_word(now)}"
    return f"{event.id}  {started}  {scores}  {visible(event.camera_name)}: {visible(now.summary)}"


def _word(assessment: Assessment) -> str:
    return Severity.Name(assessment.severity).removeprefix("SEVERITY_")


def _summary(compared: Sequence[Comparison], feedback: dict[str, pb.Feedback]) -> str:
    higher = sum(each.now.severity > each.before.severity for each in compared)
    lower = sum(each.now.severity < each.before.severity for each in compared)
    count = _events_text(len(compared))
    lines = [f"{count}: {higher} would have a higher severity, {lower} a lower one"]
    said = [(each, feedback[each.before.id]) for each in compared if each.before.id in feedback]
    if said:
        right_before = sum(each.before.severity == told.severity for each, told in said)
        right_now = sum(each.now.severity == told.severity for each, told in said)
        count = _events_text(len(said))
        lines.append(f"{count} with feedback: {right_before} right now, {right_now} would be")
    return "\n".join(lines)


def _events_text(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
