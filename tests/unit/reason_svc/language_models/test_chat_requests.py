"""The requests to each kind of server, for each family of models."""

from typing import Any

import pytest
from pydantic import ValidationError

from mesh.config import load_config
from mesh.problems import Internal
from reason_svc.language_models.model_answer import SCHEMA_V2
from reason_svc.language_models.model_families import ModelFamily
from reason_svc.language_models.servers import chat_request
from reason_svc.language_models.url import LlmServerKind
from reason_svc.reasoner import ModelChoice, ReasonerReadiness
from reason_svc.reasoner_factory import open_reasoner
from tests.support.evidence import detections, evidence
from tests.support.scripted_llm import KEY, ScriptedLlm, scripted
from tests.support.trtllm_request import ChatRequest

CASE = evidence(detections(["person"]))
COMMON = {"model", "messages", "max_tokens", "temperature", "response_format"}
NEMOTRON_3, NEMOTRON_9B = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B", "nvidia/NVIDIA-Nemotron-Nano-9B-v2"


async def recorded(server: ScriptedLlm, **options: object) -> dict[str, Any]:
    """Returns the request for one assessment."""
    async with open_reasoner(load_config(), server.url(**options)) as reasoner:
        result = await reasoner.assess(CASE, ModelChoice())
        assert result.reasoner == reasoner.name == server.kind
    (body,) = server.asked
    return body


@pytest.mark.parametrize("kind", LlmServerKind)
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("smollm2", {}),
        (NEMOTRON_3, {"chat_template_kwargs": {"enable_thinking": False}}),
        (NEMOTRON_9B, {}),
    ],
    ids=["plain", "nemotron-3-nano", "nemotron-nano-9b-v2"],
)
async def test_a_server_is_recognised_and_gets_its_own_form_of_request(
    kind: LlmServerKind, model: str, more: dict[str, Any]
) -> None:
    async with scripted(kind, model=model) as server:
        body = await recorded(server)
    if kind is LlmServerKind.OLLAMA and more:
        more = {"reasoning_effort": "none"}
    if kind is LlmServerKind.LLAMA_CPP:
        more = more | {"cache_prompt": True}
    assert body.keys() == COMMON | more.keys()
    assert {name: body[name] for name in more} == more
    assert (body["model"], body["temperature"], body["max_tokens"]) == (model, 0, 1024)
    wanted = body["response_format"]
    assert wanted.keys() == {"type", "json_schema"}
    assert (wanted["type"], wanted["json_schema"]["schema"]) == ("json_schema", SCHEMA_V2)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert all(message.keys() == {"role", "content"} for message in body["messages"])
    assert body["messages"][0]["content"].endswith("\n/no_think") == (model == NEMOTRON_9B)


@pytest.mark.parametrize("kind", LlmServerKind)
async def test_repeatable_requests_come_one_at_a_time_with_a_seed_and_without_a_cache(
    kind: LlmServerKind,
) -> None:
    config = load_config(reason_repeatable=True)
    async with scripted(kind) as server, open_reasoner(config, server.url(slots=4)) as reasoner:
        assert reasoner.slots == 1
        await reasoner.assess(CASE, ModelChoice())
        (body,) = server.asked
    more = {"seed", "cache_prompt"} if kind is LlmServerKind.LLAMA_CPP else {"seed"}
    assert body.keys() == COMMON | more
    assert (body["temperature"], body["seed"]) == (0, 1)
    assert not body.get("cache_prompt")


@pytest.mark.parametrize("family", ModelFamily)
def test_tensorrt_llm_accepts_every_field_that_it_gets(family: ModelFamily) -> None:
    model = {ModelFamily.NEMOTRON_3_NANO: NEMOTRON_3, ModelFamily.NEMOTRON_NANO_9B_V2: NEMOTRON_9B}.get(
        family, "m"
    )
    messages = [{"role": "system", "content": "judge"}, {"role": "user", "content": "this"}]
    for repeatable in (False, True):
        request = chat_request(LlmServerKind.TRTLLM, family, model, messages, 100, repeatable=repeatable)
        ChatRequest.model_validate(request)
    with pytest.raises(ValidationError, match="cache_prompt"):
        ChatRequest.model_validate(chat_request(LlmServerKind.LLAMA_CPP, family, model, messages, 100))


async def test_the_fake_tensorrt_llm_refuses_fields_of_other_servers() -> None:
    async with (
        scripted(LlmServerKind.TRTLLM) as server,
        open_reasoner(load_config(), server.url(server="llama.cpp")) as reasoner,
    ):
        with pytest.raises(Internal, match="cache_prompt") as refused:
            await reasoner.assess(CASE, ModelChoice())
        assert refused.value.reason == "LLM_REFUSED"
        assert reasoner.report().state is ReasonerReadiness.FAILING


async def test_options_in_the_url_take_precedence() -> None:
    async with scripted(LlmServerKind.OPENAI, model="mine") as server:
        url = server.url(server="vllm", family="nemotron-3-nano", context=1536, slots=7)
        async with open_reasoner(load_config(), url) as reasoner:
            assert (reasoner.name, reasoner.slots) == ("vllm", 7)
            await reasoner.assess(CASE, ModelChoice())
    (body,) = server.asked
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_tokens"] == 512


@pytest.mark.parametrize(
    ("kind", "slots"),
    [
        (LlmServerKind.LLAMA_CPP, 3),
        (LlmServerKind.TRTLLM, 4),
        (LlmServerKind.VLLM, 4),
        (LlmServerKind.OLLAMA, 1),
        (LlmServerKind.OPENAI, 4),
    ],
)
async def test_slots_are_reported_by_the_server_or_follow_from_its_kind(
    kind: LlmServerKind, slots: int
) -> None:
    async with scripted(kind) as server, open_reasoner(load_config(), server.url()) as reasoner:
        assert reasoner.slots == slots


async def test_requests_begin_with_the_same_text() -> None:
    async with scripted() as server, open_reasoner(load_config(), server.url()) as reasoner:
        for case in (CASE, evidence(detections(["dog"] * 30), camera_name="Back Door", past=3)):
            await reasoner.assess(case, ModelChoice())
    one, other = server.asked
    assert one["messages"][0] == other["messages"][0]
    assert KEY not in str(server.asked)
    for request, camera in ((one, "Front Door"), (other, "Back Door")):
        content = request["messages"][1]["content"]
        assert content.startswith("=== EVENT DATA ===\n")
        assert f"\ncamera: {camera}\n" in content
