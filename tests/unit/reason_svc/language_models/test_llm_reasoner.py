"""The LLM reasoner with a scripted server: good answers and every kind of failure."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from mesh.config import load_config
from mesh.problems import Exhausted, Internal, Invalid, Problem, Unavailable
from mesh.scene.daylight import Light
from reason_svc.evidence import Evidence
from reason_svc.language_models import client, health
from reason_svc.language_models.prompts import load_prompts
from reason_svc.language_models.url import LlmServerKind
from reason_svc.reasoner import ModelChoice, Reasoner, ReasonerReadiness, TokenUsage
from reason_svc.reasoner_factory import open_reasoner
from reason_svc.rules.reasoner import CURRENT
from tests.support.certificates import allow_old_tls
from tests.support.evidence import NIGHT, detections, evidence
from tests.support.scripted_llm import (
    GOOD,
    LOADING,
    MODEL,
    ScriptedLlm,
    Turn,
    breaks_off,
    drips,
    drops,
    hangs,
    pours,
    raw,
    redirects,
    replies,
    says,
    scripted,
)
from tests.support.waiting import until

CASE = evidence(detections(["person", "dog"], ["person"], at=NIGHT, every=4))
GOOD_ANSWER = json.dumps(GOOD)
SECONDS = 60.0


@asynccontextmanager
async def llm_reasoner(
    llm: ScriptedLlm, seconds: float = SECONDS, **options: object
) -> AsyncIterator[Reasoner]:
    config = load_config(reason_seconds=seconds, reason_prompt="v1")
    async with open_reasoner(config, llm.url(**options)) as reasoner:
        yield reasoner


@pytest.fixture(autouse=True)
def frequent_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "AWAY_SECONDS", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedLlm]:
    async with scripted() as server:
        yield server


async def refused(reasoner: Reasoner, case: Evidence = CASE, choice: ModelChoice | None = None) -> Problem:
    with pytest.raises(Problem) as problem:
        await reasoner.assess(case, choice or ModelChoice())
    return problem.value


async def test_a_result_has_the_parts_of_the_answer_and_of_the_rules(
    server: ScriptedLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # must be ignored
    answer = GOOD | {"reasons": [{"text": "a person at night", "detections": [2, 3, 77]}, {"text": "a dog"}]}
    server.turns.append(says(f"<think>hm</think>{json.dumps(answer)}"))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
        by_rules = await reasoner.assess(CASE, ModelChoice(model=CURRENT))
    assert (result.reasoner, result.model, result.score) == ("llama.cpp", MODEL, 55)
    assert result.summary == "Something moved at the door."
    assert result.factors[:-2] == by_rules.factors
    assert result.rules_score == by_rules.score
    person, dog = result.factors[-2:]
    assert (person.name, person.points, person.text) == ("reason", 0, "a person at night")
    assert set(person.detection_ids) == {s.id for s in CASE.detections if s.label == "person"}
    assert (dog.text, dog.detection_ids) == ("a dog", ())
    assert result.prompt_hash == load_prompts()["v1"].digest
    assert result.tokens == TokenUsage(100, 60, 10)
    assert result.raw_answer.startswith("<think>hm</think>")


async def test_prompt_v2_asks_for_its_own_schema_and_reads_its_answers(server: ScriptedLlm) -> None:
    answer = {"reasons": GOOD["reasons"], "real": "certain", "matters": "soon", **GOOD}
    server.turns += [says(json.dumps(answer)), says(GOOD_ANSWER)]
    async with llm_reasoner(server) as reasoner:
        for _ in range(2):  # an answer in the form of v1 counts, too
            result = await reasoner.assess(CASE, ModelChoice(prompt="v2"))
            assert (result.score, result.prompt_hash) == (55, load_prompts()["v2"].digest)
    system, user = (message["content"] for message in server.asked[0]["messages"])
    assert system == load_prompts()["v2"].text
    assert user.endswith("\n\nAssess this event. Answer with the JSON object.")
    schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reasons", "real", "matters", "score", "summary"]
    for member in ("real", "matters"):
        assert all(f"`{value}`" in system for value in schema["properties"][member]["enum"])
    assert not re.findall(r"\d{2,}", system)  # no scale to repeat


def somebody_lies(seconds: int = 20) -> Evidence:
    """The rules' floor is HIGH."""
    found = [
        replace(one, box=(0.2, 0.6, 0.6, 0.8))
        for one in detections(*[["person"]] * (seconds // 5 + 1), every=5)
    ]
    return replace(evidence(found), light=Light.DAYLIGHT)


@pytest.mark.parametrize(("answered", "score"), [(29, 60), (30, 30), (59, 59), (100, 100)])
async def test_a_model_may_go_one_level_below_the_floor_of_the_rules(
    server: ScriptedLlm, answered: int, score: int
) -> None:
    server.turns.append(says(json.dumps(GOOD | {"score": answered})))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(somebody_lies(), ModelChoice())
    assert (result.rules_floor, result.score, result.model_score) == (60, score, answered)
    kept = [factor for factor in result.factors if factor.name == "kept"]
    assert bool(kept) == (score != answered)
    for factor in kept:
        assert factor.text == "The model's score was 29; the floor of the rules, 60, is kept."
        assert factor.detection_ids
    assert sum(factor.points for factor in result.factors) == result.rules_score


async def test_a_raw_answer_is_bounded_and_storable(server: ScriptedLlm) -> None:
    server.turns.append(says(GOOD_ANSWER + "é\0\ud800" * 10_000))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
    assert 8000 < len(result.raw_answer.encode()) <= 8192
    assert "\0" not in result.raw_answer


async def test_a_missing_summary_is_that_of_the_rules(server: ScriptedLlm) -> None:
    server.turns.append(says(json.dumps(GOOD | {"summary": None, "reasons": None})))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
        assert result.summary == (await reasoner.assess(CASE, ModelChoice(model=CURRENT))).summary
    assert not any(factor.name == "reason" for factor in result.factors)


async def test_another_prompt_or_model_can_be_chosen() -> None:
    async with scripted(LlmServerKind.VLLM) as server, llm_reasoner(server) as reasoner:
        server.model = "another"
        first, other = (
            await reasoner.assess(CASE, ModelChoice()),
            await reasoner.assess(CASE, ModelChoice(prompt="v1-short")),
        )
        assert first.prompt_hash != other.prompt_hash
        problem = await refused(reasoner, choice=ModelChoice(model="another"))
        assert (type(problem), problem.reason) == (Invalid, "UNKNOWN_MODEL")
        server.turns.append(replies(500, {"message": "out of memory"}))
        await refused(reasoner)  # causes a probe
        await until(lambda: "another" in reasoner.report().models)
        assert (await reasoner.assess(CASE, ModelChoice(model="another"))).model == "another"
        assert reasoner.report().models == (MODEL, "another", "rules/v2", "rules/v1")
    assert server.asked[1]["messages"][0] != server.asked[0]["messages"][0]
    assert server.asked[-1]["model"] == "another"


async def test_an_answer_that_repeats_the_format_is_asked_for_again(server: ScriptedLlm) -> None:
    (example,) = re.findall(r'^{"reasons".*}$', load_prompts()["v1"].text, re.MULTILINE)
    server.turns.append(says(f"The format is {example}. [THINK] perhaps {GOOD_ANSWER}"))
    server.turns.append(says(f"[THINK]{example}[/THINK]{example}{GOOD_ANSWER}"))
    async with llm_reasoner(server) as reasoner:
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55
    assert len(server.asked) == 2
    first, second = (body["messages"] for body in server.asked)
    assert example in first[0]["content"]
    assert first[1] == second[1]
    assert "it repeats the example" in second[3]["content"]
    # What the model repeated is not shown to it again.
    assert not any("why, in one sentence" in message["content"] for message in second)
    assert "its members are `reasons`" in second[0]["content"]


async def test_an_example_is_never_a_score(server: ScriptedLlm) -> None:
    server.always = says(
        '{"reasons": [{"text": "one sentence", "detections": [1]}], "score": 0, "summary": "what happened"}'
    )
    async with llm_reasoner(server) as reasoner:
        problem = await refused(reasoner, choice=ModelChoice(prompt="v1-short"))
    assert problem.reason == "BAD_ANSWER"


async def test_an_answer_that_a_router_has_parsed_is_read(server: ScriptedLlm) -> None:
    server.turns.append(says(GOOD))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
    assert (result.score, json.loads(result.raw_answer)) == (55, GOOD)
    assert len(server.asked) == 1


async def test_the_text_of_an_answer_in_chunks_is_read_without_its_reasoning(server: ScriptedLlm) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": '{"score": 9}'}], "text": "{"}
    halves = [{"type": "text", "text": half} for half in (GOOD_ANSWER[:30], GOOD_ANSWER[30:])]
    server.turns.append(says([thinking, *halves, None, {"type": "text"}]))
    async with llm_reasoner(server) as reasoner:
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55


async def test_the_model_can_correct_one_bad_answer(server: ScriptedLlm) -> None:
    server.turns.append(says('{"score": "<|im_start|>high", "reasons": /think' + "x" * 10_000))
    async with llm_reasoner(server) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
        assert result.score == 55
        assert result.tokens == reasoner.report().tokens == TokenUsage(200, 120, 20)
        assert result.raw_answer == GOOD_ANSWER
    first, second = (body["messages"] for body in server.asked)
    assert second[:2] == first
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert '"score": "' in second[2]["content"]
    assert not re.search("<|>|/think", second[2]["content"])
    assert len(second[2]["content"]) <= 1200
    assert "no JSON object with a score" in second[3]["content"]


BAD_RESPONSES = {
    "garbage": (says("I cannot judge."), "BAD_ANSWER", 2),
    "half JSON": (says(GOOD_ANSWER[:30]), "BAD_ANSWER", 2),
    "a wrong schema": (says('{"risk": 4}'), "BAD_ANSWER", 2),
    "a score beyond": (says(json.dumps(GOOD | {"score": 400})), "BAD_ANSWER", 2),
    "nothing": (says(None), "BAD_ANSWER", 2),
    "an empty list": (replies(200, {"choices": []}), "BAD_ANSWER", 2),
    "no JSON at all": (raw(b"\xff\xfe<html>"), "BAD_ANSWER", 2),
    "cut": (says(GOOD_ANSWER, finish="length"), "ANSWER_CUT", 1),
    "500": (replies(500, {"error": {"message": "CUDA error", "code": 500}}), "LLM_FAILED", 1),
    "500 of trtllm": (
        replies(500, {"object": "error", "message": "CUDA error", "code": 500}),
        "LLM_FAILED",
        1,
    ),
    "404": (replies(404, {"error": "no such model"}), "LLM_REFUSED", 1),
    "a redirect": (redirects, "LLM_REFUSED", 1),
    "a bad request": (replies(400, {"error": [{"x": 1}]}), "LLM_REFUSED", 3),
    "401": (replies(401, {"error": {"message": "no such key: a-secret-key"}}), "LLM_DENIED", 1),
    "too much": (pours, "ANSWER_TOO_LONG", 1),
    "dropped always": (drops, "LLM_DROPPED", 2),
    "broken off always": (breaks_off, "LLM_DROPPED", 2),
}


@pytest.mark.parametrize(("turn", "reason", "requests"), BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
async def test_a_bad_response_is_a_failed_attempt(
    server: ScriptedLlm, turn: Turn, reason: str, requests: int
) -> None:
    server.always = turn
    async with llm_reasoner(server) as reasoner:
        problem = await refused(reasoner)
        assert (type(problem).__name__, problem.reason) == ("Internal", reason)
        assert "secret" not in problem.message
        assert len(problem.message) < 400
        # A bad answer or a dropped connection causes a second request, and what may be a refusal of the
        # answer's format causes one for each format; other failures cause none.
        assert len(server.asked) == requests
        # After a dropped connection, it is asked nothing before it has answered a probe.
        await until(lambda: reasoner.report().state is not ReasonerReadiness.UNREACHABLE)
        report = reasoner.report()
        assert (report.state, report.detail) == (ReasonerReadiness.FAILING, problem.message)
        server.always = None
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55
        assert reasoner.report().state is ReasonerReadiness.READY
        assert reasoner.report().detail == ""


@pytest.mark.parametrize("turn", [hangs, drips])
async def test_missing_the_deadline_is_a_failed_attempt(server: ScriptedLlm, turn: Turn) -> None:
    server.always = turn
    async with llm_reasoner(server, seconds=0.3) as reasoner:
        problem = await refused(reasoner)
        assert (type(problem), problem.reason) == (Internal, "ANSWER_TIMEOUT")
        assert reasoner.report().state is ReasonerReadiness.FAILING
        await until(lambda: server.assessing == 0)  # the connection was closed


async def test_a_dropped_pooled_connection_is_replaced(server: ScriptedLlm) -> None:
    async with llm_reasoner(server) as reasoner:
        await reasoner.assess(CASE, ModelChoice())
        for turn in (drops, breaks_off):
            server.turns.append(turn)
            assert (await reasoner.assess(CASE, ModelChoice())).score == 55
        assert reasoner.report().state is ReasonerReadiness.READY
    assert len(server.asked) == 5


async def test_only_one_attempt_fails_while_a_server_is_gone_that_a_proxy_stands_for(
    server: ScriptedLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "AWAY_SECONDS", 3600.0)
    server.always = drops
    async with llm_reasoner(server) as reasoner:
        assert (await refused(reasoner)).reason == "LLM_DROPPED"
        for _ in range(5):
            problem = await refused(reasoner)
            assert (type(problem), problem.reason) == (Unavailable, "LLM_UNREACHABLE")
    assert len(server.asked) == 2


@pytest.mark.parametrize("times", [1, 2])
async def test_a_connection_that_closes_before_the_request_was_dropped(
    server: ScriptedLlm, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    closed = [aiohttp.ClientConnectionResetError("Cannot write to closing transport")] * times
    send_once = client._send_once

    async def send_later(session: Any, method: str, *rest: Any) -> Any:
        if method == "POST" and closed:
            raise closed.pop()
        return await send_once(session, method, *rest)

    monkeypatch.setattr(client, "_send_once", send_later)
    async with llm_reasoner(server) as reasoner:
        if times == 1:
            assert (await reasoner.assess(CASE, ModelChoice())).score == 55
        else:
            assert (await refused(reasoner)).reason == "LLM_DROPPED"


async def test_a_busy_server_is_not_a_failed_attempt(server: ScriptedLlm) -> None:
    server.turns.append(replies(429, {"error": {"message": "slow down"}}))
    async with llm_reasoner(server) as reasoner:
        assert isinstance(await refused(reasoner), Exhausted)
        assert reasoner.report().state is ReasonerReadiness.READY


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_reports_itself_unavailable_is_not_a_failed_attempt(
    server: ScriptedLlm, status: int
) -> None:
    server.turns.append(replies(status, LOADING))
    async with llm_reasoner(server) as reasoner:
        assert isinstance(await refused(reasoner), Unavailable)
        assert reasoner.report().state is (
            ReasonerReadiness.LOADING if status == 503 else ReasonerReadiness.UNREACHABLE
        )
        await until(lambda: reasoner.report().state is ReasonerReadiness.READY)


async def test_a_server_that_is_loading_becomes_ready(server: ScriptedLlm) -> None:
    server.loading = True
    async with llm_reasoner(server) as reasoner:
        assert reasoner.report().state is ReasonerReadiness.LOADING
        problem = await refused(reasoner)
        assert (type(problem), problem.reason) == (Unavailable, "LLM_LOADING")
        since = reasoner.report().since
        server.loading = False
        await until(lambda: reasoner.report().state is ReasonerReadiness.READY)
        assert reasoner.report().since > since
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55


async def test_a_server_that_was_restarted_becomes_ready_with_its_new_slots(server: ScriptedLlm) -> None:
    async with llm_reasoner(server) as reasoner:
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55
        await server.stop()
        for _ in range(3):
            problem = await refused(reasoner)
            assert (type(problem), problem.reason) == (Unavailable, "LLM_UNREACHABLE")
        assert reasoner.report().state is ReasonerReadiness.UNREACHABLE
        server.slots = 9
        await server.start()
        await until(lambda: reasoner.report().state is ReasonerReadiness.READY)
        assert reasoner.slots == 9
        assert (await reasoner.assess(CASE, ModelChoice())).score == 55
    assert len(server.asked) == 2


async def test_a_server_that_is_away_does_not_stop_the_start(server: ScriptedLlm) -> None:
    await server.stop()
    async with llm_reasoner(server, server="trtllm", slots=2) as reasoner:
        assert (reasoner.name, reasoner.slots) == ("trtllm", 2)
        assert reasoner.report().state is ReasonerReadiness.UNREACHABLE
        assert isinstance(await refused(reasoner), Unavailable)
        result = await reasoner.assess(CASE, ModelChoice(model="rules/v1"))
        assert result.reasoner == "rules/v1"


async def test_a_failing_server_is_ready_after_a_restart(server: ScriptedLlm) -> None:
    server.always = replies(500, {})
    async with llm_reasoner(server) as reasoner:
        await refused(reasoner)
        assert reasoner.report().state is ReasonerReadiness.FAILING
        await server.stop()
        await until(lambda: reasoner.report().state is ReasonerReadiness.UNREACHABLE)
        await server.start()
        await until(lambda: reasoner.report().state is ReasonerReadiness.READY)


async def test_a_server_that_hangs_becomes_unreachable(
    server: ScriptedLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with llm_reasoner(server, seconds=0.3) as reasoner:
        monkeypatch.setattr(health, "PROBE_SECONDS", 0.3)
        server.silent = True
        problem = await refused(reasoner)
        assert (type(problem), problem.reason) == (Internal, "ANSWER_TIMEOUT")
        await until(lambda: reasoner.report().state is ReasonerReadiness.UNREACHABLE)
        assert isinstance(await refused(reasoner), Unavailable)
        server.silent = False
        await until(lambda: reasoner.report().state is ReasonerReadiness.READY)


async def test_a_wrong_key_is_reported_without_the_key(server: ScriptedLlm) -> None:
    url = server.url().replace("a-secret-key", "another-secret")
    async with open_reasoner(load_config(), url) as reasoner:
        problem = await refused(reasoner)
        assert (type(problem), problem.reason) == (Internal, "LLM_DENIED")
        assert reasoner.report().state is ReasonerReadiness.FAILING
        assert "secret" not in problem.message + reasoner.report().detail


BIG = evidence(detections(*[["person"] * 5 + ["car", "dog"]] * 6, every=2))


@pytest.mark.parametrize(("kind", "context"), [(LlmServerKind.LLAMA_CPP, 1000), (LlmServerKind.VLLM, 1900)])
async def test_a_prompt_that_does_not_fit_is_shortened_before_it_is_sent(
    kind: LlmServerKind, context: int
) -> None:
    async with scripted(kind, context=context) as server, llm_reasoner(server) as reasoner:
        assert (await reasoner.assess(BIG, ModelChoice())).score == 55
    (body,) = server.asked
    assert "detections: 42, summarised in" in body["messages"][1]["content"]


@pytest.mark.parametrize("kind", [LlmServerKind.LLAMA_CPP, LlmServerKind.TRTLLM, LlmServerKind.VLLM])
async def test_a_prompt_that_the_server_rejects_as_too_long_is_shortened(kind: LlmServerKind) -> None:
    async with scripted(kind) as server, llm_reasoner(server, context=8192) as reasoner:
        server.context = 1024 + 520
        assert (await reasoner.assess(BIG, ModelChoice())).score == 55
    described = [re.search(r"detections: 42.*", body["messages"][1]["content"]) for body in server.asked]
    assert len(described) > 1
    assert [line and line[0] for line in described][:2] == [
        "detections: 42",
        "detections: 42, summarised in 18 lines",
    ]


async def test_a_context_that_is_too_small_is_a_failed_attempt(server: ScriptedLlm) -> None:
    server.context = 300
    async with llm_reasoner(server) as reasoner:
        problem = await refused(reasoner)
        assert (type(problem), problem.reason) == (Internal, "CONTEXT_TOO_SMALL")


async def test_an_unknown_prompt_stops_the_start(server: ScriptedLlm) -> None:
    config = load_config(reason_prompt="v0")
    with pytest.raises(Invalid, match="LARES_REASON_PROMPT must be one of v1, v1-short, v2"):
        async with open_reasoner(config, server.url()):
            raise AssertionError("opened")


async def test_a_file_without_certificates_stops_the_start(server: ScriptedLlm, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", Path(__file__)):
        with pytest.raises(Invalid, match="LARES_REASONER_CA"):
            async with open_reasoner(load_config(reasoner_ca=path), server.url()):
                raise AssertionError("opened")


async def test_the_servers_certificate_is_verified_by_the_configured_ca(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    async with scripted(tls=tls) as server:
        async with open_reasoner(load_config(reasoner_ca=tmp_path / "ca.pem"), server.url()) as reasoner:
            assert (await reasoner.assess(CASE, ModelChoice())).score == 55
        async with open_reasoner(load_config(), server.url()) as reasoner:
            assert isinstance(await refused(reasoner), Unavailable)
            assert "certificate" in reasoner.report().detail
    assert len(server.asked) == 1


async def test_a_server_with_an_old_version_of_tls_is_not_asked(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    allow_old_tls(tls)
    async with (
        scripted(tls=tls) as server,
        open_reasoner(load_config(reasoner_ca=tmp_path / "ca.pem"), server.url()) as reasoner,
    ):
        assert isinstance(await refused(reasoner), Unavailable)
    assert server.asked == []


async def test_requests_fail_while_the_reasoner_closes(server: ScriptedLlm) -> None:
    async with llm_reasoner(server) as reasoner:
        server.always = hangs
        asked = asyncio.create_task(reasoner.assess(CASE, ModelChoice()))
        await until(lambda: server.assessing)
    with pytest.raises(Unavailable):
        await asked
    assert isinstance(await refused(reasoner), Unavailable)


def test_the_digest_of_a_prompt_depends_on_its_text(tmp_path: Path) -> None:
    (tmp_path / "v1-a.md").write_text("Judge.\n")
    (tmp_path / "v1-b.md").write_text("Judge!\n")
    first = load_prompts(tmp_path)
    assert list(first) == ["v1-a", "v1-b"]
    assert first["v1-a"].text == "Judge."
    assert len({prompt.digest for prompt in first.values()}) == 2
    assert load_prompts(tmp_path) == first
    shipped: Any = load_prompts()
    assert all("=== EVENT DATA ===" in prompt.text for prompt in shipped.values())
