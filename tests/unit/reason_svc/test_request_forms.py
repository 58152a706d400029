"""What goes over the wire to each kind of server, for each family of models."""

from typing import Any

import pytest
from pydantic import ValidationError

from mesh.config import load_config
from mesh.problems import Internal
from reason_svc.address import Kind
from reason_svc.answer import SCHEMA
from reason_svc.families import Family
from reason_svc.reasoner import State, Wish
from reason_svc.reasoners import open_reasoner
from reason_svc.servers import chat_body
from tests.support.evidence import evidence, sightings
from tests.support.scripted_llm import KEY, ScriptedLlm, scripted
from tests.support.trtllm_form import ChatRequest

CASE = evidence(sightings(["person"]))
COMMON = {"model", "messages", "max_tokens", "temperature", "response_format"}
NEMOTRON_3, NEMOTRON_9B = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B", "nvidia/NVIDIA-Nemotron-Nano-9B-v2"


async def recorded(server: ScriptedLlm, **options: object) -> dict[str, Any]:
    """The request for one judgement."""
    async with open_reasoner(load_config(), server.url(**options)) as reasoner:
        verdict = await reasoner.judge(CASE, Wish())
        assert verdict.reasoner == reasoner.name == server.kind
    (body,) = server.asked
    return body


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("smollm2", {}),
        (NEMOTRON_3, {"chat_template_kwargs": {"enable_thinking": False}}),
        (NEMOTRON_9B, {}),
    ],
    ids=["plain", "nemotron-3-nano", "nemotron-nano-9b-v2"],
)
async def test_a_server_is_recognised_and_asked_in_its_own_form(
    kind: Kind, model: str, more: dict[str, Any]
) -> None:
    async with scripted(kind, model=model) as server:
        body = await recorded(server)
    if kind is Kind.OLLAMA and more:
        more = {"reasoning_effort": "none"}
    if kind is Kind.LLAMA_CPP:
        more = more | {"cache_prompt": True}
    assert body.keys() == COMMON | more.keys()
    assert {name: body[name] for name in more} == more
    assert (body["model"], body["temperature"], body["max_tokens"]) == (model, 0, 1024)
    wanted = body["response_format"]
    assert wanted.keys() == {"type", "json_schema"}
    assert (wanted["type"], wanted["json_schema"]["schema"]) == ("json_schema", SCHEMA)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert all(message.keys() == {"role", "content"} for message in body["messages"])
    assert body["messages"][0]["content"].endswith("\n/no_think") == (model == NEMOTRON_9B)


@pytest.mark.parametrize("family", Family)
def test_all_that_is_sent_to_tensorrt_llm_is_known_to_it(family: Family) -> None:
    model = {Family.NEMOTRON_3_NANO: NEMOTRON_3, Family.NEMOTRON_NANO_9B_V2: NEMOTRON_9B}.get(family, "m")
    messages = [{"role": "system", "content": "judge"}, {"role": "user", "content": "this"}]
    ChatRequest.model_validate(chat_body(Kind.TRTLLM, family, model, messages, 100))
    with pytest.raises(ValidationError, match="cache_prompt"):
        ChatRequest.model_validate(chat_body(Kind.LLAMA_CPP, family, model, messages, 100))


async def test_the_fake_of_tensorrt_llm_refuses_what_is_not_for_it() -> None:
    async with (
        scripted(Kind.TRTLLM) as server,
        open_reasoner(load_config(), server.url(server="llama.cpp")) as reasoner,
    ):
        with pytest.raises(Internal, match="cache_prompt") as refused:
            await reasoner.judge(CASE, Wish())
        assert refused.value.reason == "LLM_REFUSED"
        assert reasoner.report().state is State.FAILING


async def test_what_the_url_says_counts_more_than_what_is_seen() -> None:
    async with scripted(Kind.OPENAI, model="mine") as server:
        body = await recorded_as(server)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_tokens"] == 512


async def recorded_as(server: ScriptedLlm) -> dict[str, Any]:
    url = server.url(server="vllm", family="nemotron-3-nano", context=1536, slots=7)
    async with open_reasoner(load_config(), url) as reasoner:
        assert (reasoner.name, reasoner.slots) == ("vllm", 7)
        await reasoner.judge(CASE, Wish())
    return server.asked[0]


@pytest.mark.parametrize(
    ("kind", "slots"),
    [(Kind.LLAMA_CPP, 3), (Kind.TRTLLM, 4), (Kind.VLLM, 4), (Kind.OLLAMA, 1), (Kind.OPENAI, 4)],
)
async def test_slots_are_asked_for_or_known_by_the_kind(kind: Kind, slots: int) -> None:
    async with scripted(kind) as server, open_reasoner(load_config(), server.url()) as reasoner:
        assert reasoner.slots == slots


async def test_everything_but_the_event_is_the_same_each_time_and_comes_first() -> None:
    async with scripted() as server, open_reasoner(load_config(), server.url()) as reasoner:
        for case in (CASE, evidence(sightings(["dog"] * 30), place="Back Door", past=3)):
            await reasoner.judge(case, Wish())
    one, other = server.asked
    assert one["messages"][0] == other["messages"][0]
    assert KEY not in str(server.asked)
    assert one["messages"][1]["content"].startswith("=== EVENT DATA ===\ncamera: Front Door")
    assert other["messages"][1]["content"].startswith("=== EVENT DATA ===\ncamera: Back Door")
