"""Servers that refuse a format of answers are asked for the next one, until they change."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from mesh.config import load_config
from mesh.problems import Problem
from reason_svc.language_models import health
from reason_svc.language_models.url import LlmServerKind
from reason_svc.reasoner import ModelChoice, Reasoner, ReasonerReadiness
from reason_svc.reasoner_factory import open_reasoner
from tests.support.evidence import detections, evidence
from tests.support.scripted_llm import GOOD, ScriptedLlm, answer_format, replies, says, scripted
from tests.support.waiting import until

CASE = evidence(detections(["person"]))
BIG = evidence(detections(*[["person"] * 5 + ["car", "dog"]] * 6, every=2))
SCHEMA, OBJECT, TEXT = "json_schema", "json_object", "text"


@pytest.fixture(autouse=True)
def frequent_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "AWAY_SECONDS", 0.05)


@pytest.fixture(params=[LlmServerKind.OPENAI, LlmServerKind.LLAMA_CPP])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedLlm]:
    async with scripted(request.param) as server:
        yield server


@pytest.fixture
async def reasoner(server: ScriptedLlm) -> AsyncIterator[Reasoner]:
    async with open_reasoner(load_config(), server.url()) as reasoner:
        yield reasoner


async def asked_for(server: ScriptedLlm, reasoner: Reasoner, model: str = "") -> list[str]:
    """Returns the formats of the requests of one assessment, which must succeed."""
    server.asked.clear()
    assert (await reasoner.assess(CASE, ModelChoice(model=model))).score == 55
    return [answer_format(body) for body in server.asked]


REFUSALS = [
    (
        400,
        {
            "error": {
                "message": "This response_format type is unavailable now",
                "code": "invalid_request_error",
            }
        },
    ),
    (400, {"error": {"message": "Invalid value", "param": "response_format"}}),
    (400, None),
    (422, {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]}),
    (501, {"error": "not implemented"}),
    (500, {"error": {"message": "guided decoding is not enabled"}}),
    (500, {"error": {"message": "Failed to parse grammar"}}),
    (404, {"error": {"message": "No endpoints found that support response_format"}}),
    (400, {"error": "'response_format.type' must be 'text'"}),
    (406, None),
    (415, {"message": "unsupported"}),
    (422, {"detail": "Unprocessable Entity"}),
    (424, {"error": "Invalid grammar", "error_type": "validation"}),
    (500, {"detail": "json mode needs a model that supports it"}),
    (500, {"error": "outlines: cannot compile the pattern"}),
    (500, {"detail": [{"loc": ["body"], "msg": "unknown field response_format"}]}),
    (200, {"error": {"code": 400, "message": "not supported by the provider"}}),
    (200, {"error": "structured outputs are not available"}),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    ("accepted", "tried"),
    [({OBJECT, TEXT}, [SCHEMA, OBJECT]), ({TEXT}, [SCHEMA, OBJECT, TEXT]), ({SCHEMA, TEXT}, [SCHEMA])],
)
async def test_the_next_format_is_asked_for_and_remembered(
    server: ScriptedLlm, reasoner: Reasoner, accepted: set[str], tried: list[str], refusal: tuple[int, object]
) -> None:
    server.formats, server.refusal = accepted, refusal
    assert await asked_for(server, reasoner) == tried
    assert await asked_for(server, reasoner) == tried[-1:]
    server.turns.append(says("I think it is 30."))
    assert await asked_for(server, reasoner) == tried[-1:] * 2  # the question for a correction
    assert reasoner.report().state is ReasonerReadiness.READY
    if tried[-1] is TEXT:
        assert "response_format" not in server.asked[-1]


async def test_a_server_that_was_away_is_asked_for_the_strictest_format_again(
    server: ScriptedLlm, reasoner: Reasoner
) -> None:
    server.formats = {TEXT}
    assert await asked_for(server, reasoner) == [SCHEMA, OBJECT, TEXT]
    await server.stop()
    with pytest.raises(Problem):
        await reasoner.assess(CASE, ModelChoice())
    server.formats = None
    await server.start()
    await until(lambda: reasoner.report().state is ReasonerReadiness.READY)
    assert await asked_for(server, reasoner) == [SCHEMA]


async def test_a_server_with_other_properties_is_asked_for_the_strictest_format_again() -> None:
    async with (
        scripted(LlmServerKind.VLLM) as server,
        open_reasoner(load_config(), server.url()) as reasoner,
    ):
        server.formats = {TEXT}
        assert await asked_for(server, reasoner) == [SCHEMA, OBJECT, TEXT]
        server.formats, server.others = None, ["another"]
        server.turns.append(replies(500, {}))
        with pytest.raises(Problem):
            await reasoner.assess(CASE, ModelChoice())  # causes a probe
        await until(lambda: "another" in reasoner.report().models)
        assert await asked_for(server, reasoner) == [SCHEMA]


async def test_a_server_that_refuses_what_it_accepted_is_asked_for_the_strictest_format_next_time(
    server: ScriptedLlm, reasoner: Reasoner
) -> None:
    server.formats = {TEXT}
    await asked_for(server, reasoner)
    server.formats = {SCHEMA}
    with pytest.raises(Problem) as problem:
        await reasoner.assess(CASE, ModelChoice())
    assert problem.value.reason == "LLM_REFUSED"
    assert await asked_for(server, reasoner) == [SCHEMA]


async def test_each_model_of_a_server_has_its_own_format() -> None:
    async with scripted(LlmServerKind.VLLM) as server:
        server.others = ["another"]
        async with open_reasoner(load_config(), server.url()) as reasoner:
            server.formats = {TEXT}
            assert await asked_for(server, reasoner) == [SCHEMA, OBJECT, TEXT]
            server.formats = None
            assert await asked_for(server, reasoner, "another") == [SCHEMA]
            assert await asked_for(server, reasoner) == [TEXT]


async def test_a_refusal_of_something_else_is_told_as_the_server_told_it_first(
    server: ScriptedLlm, reasoner: Reasoner
) -> None:
    first, other = {"error": {"message": "no system role"}}, {"error": {"message": "still none"}}
    server.turns.extend([replies(400, first), replies(400, other), replies(400, other)])
    with pytest.raises(Problem, match="no system role") as problem:
        await reasoner.assess(CASE, ModelChoice())
    assert problem.value.reason == "LLM_REFUSED"
    assert await asked_for(server, reasoner) == [SCHEMA]


@pytest.mark.parametrize(
    "failure",
    [
        (500, None),
        (500, {}),
        (500, {"detail": "Internal Server Error"}),
        (500, {"error": {"message": "internal error", "type": "InternalServerError"}}),
    ],
)
async def test_a_failure_without_a_cause_may_be_a_refusal_but_is_not_remembered(
    server: ScriptedLlm, reasoner: Reasoner, failure: tuple[int, object]
) -> None:
    server.formats, server.refusal = {TEXT}, failure
    assert await asked_for(server, reasoner) == [SCHEMA, OBJECT, TEXT]
    assert await asked_for(server, reasoner) == [SCHEMA, OBJECT, TEXT]
    server.formats = None
    server.turns.append(replies(*failure))
    assert await asked_for(server, reasoner) == [SCHEMA, OBJECT]
    assert await asked_for(server, reasoner) == [SCHEMA]


async def test_a_server_that_fails_in_every_format_has_failed(
    server: ScriptedLlm, reasoner: Reasoner
) -> None:
    server.formats, server.refusal = set(), (500, {"detail": "Internal Server Error"})
    with pytest.raises(Problem, match="Internal Server Error") as problem:
        await reasoner.assess(CASE, ModelChoice())
    assert problem.value.reason == "LLM_FAILED"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 429, "message": "slow down"}, "LLM_BUSY"),
        ({"code": 503, "message": "loading"}, "LLM_LOADING"),
        ({"code": "x", "message": "out of memory"}, "LLM_FAILED"),
        ("out of memory", "LLM_FAILED"),
    ],
)
async def test_an_error_with_status_200_is_an_error(
    server: ScriptedLlm, reasoner: Reasoner, error: object, reason: str
) -> None:
    server.turns.append(replies(200, {"error": error}))
    with pytest.raises(Problem) as problem:
        await reasoner.assess(CASE, ModelChoice())
    assert problem.value.reason == reason
    assert len(server.asked) == 1


async def test_an_empty_error_beside_a_completion_is_none(server: ScriptedLlm, reasoner: Reasoner) -> None:
    server.turns.append(says(json.dumps(GOOD), error=None))
    server.turns.append(says(json.dumps(GOOD), error={"message": "partly"}))
    assert await asked_for(server, reasoner) == await asked_for(server, reasoner) == [SCHEMA]


@pytest.mark.parametrize("status", [401, 404, 429, 503])
async def test_other_failures_say_nothing_about_the_format(
    server: ScriptedLlm, reasoner: Reasoner, status: int
) -> None:
    server.turns.append(replies(400, None))
    server.turns.append(replies(status, {}))
    with pytest.raises(Problem):
        await reasoner.assess(CASE, ModelChoice())
    assert len(server.asked) == 2
    await until(lambda: reasoner.report().state in (ReasonerReadiness.READY, ReasonerReadiness.FAILING))
    assert await asked_for(server, reasoner) == [SCHEMA]


async def test_a_prompt_that_is_too_long_is_shortened_and_not_a_refusal(server: ScriptedLlm) -> None:
    async with open_reasoner(load_config(reason_prompt="v1"), server.url(context=8192)) as reasoner:
        server.context, server.formats = 1024 + 520, {TEXT}
        assert (await reasoner.assess(BIG, ModelChoice())).score == 55
    formats = [answer_format(body) for body in server.asked]
    assert formats[:3] == [SCHEMA, OBJECT, TEXT]
    assert set(formats[3:]) == {TEXT}


async def test_concurrent_assessments_find_the_format(server: ScriptedLlm, reasoner: Reasoner) -> None:
    server.formats = {OBJECT}
    results = await asyncio.gather(*(reasoner.assess(CASE, ModelChoice()) for _ in range(4)))
    assert {result.score for result in results} == {55}
    assert await asked_for(server, reasoner) == [OBJECT]
