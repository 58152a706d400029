"""Reassessments, and the history of assessments."""

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from gateway.loaders import Loaders
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.reason_service_pb2 import (
    REASONER_STATE_LOADING,
    REASONER_STATE_READY,
    REASONER_STATE_UNREACHABLE,
    GetReasonStatusResponse,
)
from lares.store.v1.event_service_pb2 import (
    ListAssessmentsRequest,
    ListAssessmentsResponse,
    ReassessEventRequest,
)
from mesh.problems import Exhausted, Invalid, Unavailable
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import NOON, uuid

REASSESS = """mutation($input: ReassessEventInput!) { reassessEvent(input: $input) {
  requestId event { id status assessment { score } } } }"""
HISTORY = """query($id: ID!, $first: Int, $after: String) { event(id: $id) {
  assessments(first: $first, after: $after) {
    edges { cursor node { id score } } pageInfo { hasNextPage endCursor } } } }"""
REQUEST = uuid("a request")
LLM = GetReasonStatusResponse(
    reasoner="llama.cpp",
    state=REASONER_STATE_READY,
    model="nano",
    models=["nano", "super"],
    prompt="v1",
    prompts=["v1", "v2"],
)


def assessments(count: int) -> list[Assessment]:
    """Newest first."""
    return [Assessment(id=uuid("assessment", n), score=n, severity=1) for n in reversed(range(count))]  # type: ignore[arg-type]


async def test_a_request_is_passed_to_the_store(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, score=72)
    gateway.store.reason = LLM
    choice = {"eventId": event.id, "requestId": REQUEST, "model": "super", "prompt": "v2"}
    response = (await gateway.ask(REASSESS, input=choice))["reassessEvent"]
    assert response == {
        "requestId": REQUEST,
        "event": {"id": event.id, "status": "ASSESSED", "assessment": {"score": 72}},
    }
    asked = [each for each in gateway.store.requests if isinstance(each, ReassessEventRequest)]
    assert asked == [ReassessEventRequest(event_id=event.id, request_id=REQUEST, model="super", prompt="v2")]


@pytest.mark.parametrize("choice", [{}, {"model": None, "prompt": None}, {"model": "", "prompt": ""}])
async def test_a_request_without_model_and_prompt_needs_no_reasoner(
    gateway: Gateway, choice: dict[str, Any]
) -> None:
    gateway.store.failing["GetReasonStatus"] = Unavailable("no server", "GONE")
    event = gateway.store.add_event(1)
    response = await gateway.ask(REASSESS, input={"eventId": event.id} | choice)
    assert response["reassessEvent"]["requestId"] == uuid("request")
    assert gateway.store.calls["GetReasonStatus"] == 0


async def test_a_request_with_a_model_needs_the_reasoner(gateway: Gateway) -> None:
    gateway.store.failing["GetReasonStatus"] = Unavailable("no server", "GONE")
    event = gateway.store.add_event(1)
    error = await gateway.error(REASSESS, input={"eventId": event.id, "model": "nano"})
    assert error["extensions"]["code"] == "UNAVAILABLE"
    assert gateway.store.calls["ReassessEvent"] == 0


@pytest.mark.parametrize(
    ("choice", "reason", "known"),
    [
        ({"model": "giga"}, "UNKNOWN_MODEL", "nano, super"),
        ({"prompt": "v9"}, "UNKNOWN_PROMPT", "v1, v2"),
        ({"model": "super", "prompt": "v9"}, "UNKNOWN_PROMPT", "v1, v2"),
    ],
)
async def test_unknown_models_and_prompts_are_refused(
    gateway: Gateway, choice: dict[str, Any], reason: str, known: str
) -> None:
    gateway.store.reason = LLM
    event = gateway.store.add_event(1)
    error = await gateway.error(REASSESS, input={"eventId": event.id} | choice)
    assert error["extensions"] == {"code": "INVALID_ARGUMENT", "reason": reason, "metadata": {"known": known}}
    assert known in error["message"]
    assert gateway.store.calls["ReassessEvent"] == 0


async def test_the_rules_offer_no_choice_of_models(gateway: Gateway) -> None:
    gateway.store.reason = GetReasonStatusResponse(reasoner="rules/v1", state=REASONER_STATE_READY)
    event = gateway.store.add_event(1)
    error = await gateway.error(REASSESS, input={"eventId": event.id, "model": "nano"})
    assert error["extensions"]["reason"] == "UNKNOWN_MODEL"
    assert "rules/v1 offers no choice" in error["message"]


@pytest.mark.parametrize("state", [REASONER_STATE_LOADING, REASONER_STATE_UNREACHABLE])
async def test_a_reasoner_that_does_not_know_its_models_yet_is_unavailable(
    gateway: Gateway, state: Any
) -> None:
    gateway.store.reason = GetReasonStatusResponse(state=state, model="nano")
    event = gateway.store.add_event(1)
    error = await gateway.error(REASSESS, input={"eventId": event.id, "model": "super"})
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == (
        "UNAVAILABLE",
        "JUDGE_UNAVAILABLE",
    )
    await gateway.ask(REASSESS, input={"eventId": event.id, "model": "nano"})  # the configured model is known


async def test_a_refusal_by_the_store_is_passed_on(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.failing["ReassessEvent"] = Exhausted("many wait", "TOO_MANY_REASSESSMENTS", most="9")
    error = await gateway.error(REASSESS, input={"eventId": event.id})
    assert error["extensions"] == {
        "code": "RESOURCE_EXHAUSTED",
        "reason": "TOO_MANY_REASSESSMENTS",
        "metadata": {"most": "9"},
    }


async def test_every_field_of_an_assessment(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    assessed = Assessment(
        id=uuid("assessment"),
        evidence_digest="ab" * 32,
        score=71,
        severity=3,  # type: ignore[arg-type]
        reasoner="llama.cpp",
        model="nano",
        prompt_hash="cd" * 32,
        request_id=REQUEST,
        rules_score=40,
        prompt_tokens=812,
        cached_tokens=700,
        completion_tokens=90,
    )
    gateway.store.raw_answers[assessed.id] = '{"score": 71}'
    assessed.duration.FromMilliseconds(1250)
    assessed.assessed_at.FromDatetime(NOON)
    rules = Assessment(id=uuid("rules"), score=40, severity=2, reasoner="rules/v1", rules_score=40)  # type: ignore[arg-type]
    gateway.store.assessments[event.id] = [assessed, rules]
    query = """query($id: ID!) { event(id: $id) { assessments { edges { node {
      id evidenceDigest score severity reasoner model promptHash requestId rulesScore
      promptTokens cachedTokens completionTokens durationSeconds rawAnswer } } } } }"""
    edges = (await gateway.ask(query, id=event.id))["event"]["assessments"]["edges"]
    assert edges[0]["node"] == {
        "id": uuid("assessment"),
        "evidenceDigest": "ab" * 32,
        "score": 71,
        "severity": "HIGH",
        "reasoner": "llama.cpp",
        "model": "nano",
        "promptHash": "cd" * 32,
        "requestId": REQUEST,
        "rulesScore": 40,
        "promptTokens": 812,
        "cachedTokens": 700,
        "completionTokens": 90,
        "durationSeconds": 1.25,
        "rawAnswer": '{"score": 71}',
    }
    assert gateway.store.calls["GetRawAnswer"] == 1  # assessments by the rules have none
    plain = edges[1]["node"]
    assert (plain["model"], plain["requestId"], plain["rawAnswer"], plain["promptTokens"]) == (
        "",
        None,
        "",
        0,
    )


async def test_the_raw_answer_of_an_unknown_assessment_is_empty(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.assess(event, 72, model="nano")
    del gateway.store.assessments[event.id]
    query = "query($id: ID!) { event(id: $id) { assessment { score rawAnswer } } }"
    response = await gateway.ask(query, id=event.id)
    assert response["event"]["assessment"] == {"score": 72, "rawAnswer": ""}


async def test_raw_answers_are_loaded_only_if_they_are_selected(gateway: Gateway) -> None:
    for index in range(3):
        assessment = gateway.store.assess(gateway.store.add_event(index), 72, model="nano")
        gateway.store.raw_answers[assessment.id] = f"answer {index}"
    await gateway.ask("{ events { edges { node { assessment { score } } } } }")
    assert gateway.store.calls["GetRawAnswer"] == 0
    edges = (await gateway.ask("{ events { edges { node { assessment { rawAnswer } } } } }"))["events"][
        "edges"
    ]
    assessed = {edge["node"]["assessment"]["rawAnswer"] for edge in edges}
    assert assessed == {"answer 0", "answer 1", "answer 2"}
    assert gateway.store.calls["GetRawAnswer"] == 3


async def test_a_cursor_leads_to_the_next_page_of_the_history(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.assessments[event.id] = assessments(5)
    seen, after = [], None
    for more in (True, True, False):
        found = (await gateway.ask(HISTORY, id=event.id, first=2, after=after))["event"]["assessments"]
        seen += [edge["node"]["score"] for edge in found["edges"]]
        after = found["pageInfo"]["endCursor"]
        assert found["pageInfo"]["hasNextPage"] is more
    assert seen == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_the_page_size_of_the_history_is_limited(gateway: Gateway, first: int) -> None:
    event = gateway.store.add_event(1)
    error = await gateway.error(HISTORY, id=event.id, first=first)
    assert error["extensions"]["reason"] == "BAD_PAGE_SIZE"


async def test_histories_cost_one_call_for_each_event(gateway: Gateway) -> None:
    for index in range(60):
        event = gateway.store.add_event(index)
        gateway.store.assessments[event.id] = assessments(index % 3)
    query = """{ events(first: 50) { edges { node {
      a: assessments(first: 3) { edges { node { score } } }
      b: assessments(first: 3) { edges { node { id } } } } } } }"""
    edges = (await gateway.ask(query))["events"]["edges"]
    assert [len(edge["node"]["a"]["edges"]) for edge in edges[:4]] == [2, 1, 0, 2]
    assert gateway.store.calls["ListAssessments"] == 50


async def test_one_history_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(method: object, request: ListAssessmentsRequest) -> ListAssessmentsResponse:
        if request.page_token:
            raise Invalid("this page token belongs to another list or filter", "BAD_PAGE_TOKEN")
        return ListAssessmentsResponse(assessments=assessments(1))

    monkeypatch.setattr("gateway.loaders.call", call)
    loaders = Loaders(MagicMock())
    keys = [("event", 3, ""), ("event", 3, "another's")]
    good, bad = await asyncio.gather(*map(loaders.assessments.load, keys), return_exceptions=True)
    assert isinstance(good, ListAssessmentsResponse)
    assert isinstance(bad, Invalid)


async def test_too_many_histories_are_refused(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    fields = " ".join(f"a{n}: assessments(first: {n + 1}) {{ edges {{ cursor }} }}" for n in range(8))
    error = await gateway.error(f"{{ events(first: 200) {{ edges {{ node {{ {fields} }} }} }} }}")
    assert error["extensions"]["reason"] == "TOO_COSTLY"
    assert gateway.store.calls["ListEvents"] == 0


async def test_the_rules_use_no_prompt(gateway: Gateway) -> None:
    gateway.store.reason = GetReasonStatusResponse(models=["nano", "rules/v1"], prompts=["v1"])
    choice = {"eventId": gateway.store.add_event(1).id, "model": "rules/v1"}
    assert (await gateway.error(REASSESS, input=choice | {"prompt": "v1"}))["extensions"]["reason"] == (
        "UNKNOWN_PROMPT"
    )
    assert await gateway.ask(REASSESS, input=choice)
