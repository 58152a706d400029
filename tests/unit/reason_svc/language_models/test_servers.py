"""Responses of LLM servers, of any form."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.language_models.responses import (
    LlmResponse,
    PromptTooLong,
    completion_text,
    problem_of,
    token_usage,
)
from reason_svc.language_models.servers import probe_server
from reason_svc.language_models.url import LlmEndpoint, LlmServerKind
from reason_svc.reasoner import TokenUsage

ENDPOINT = LlmEndpoint("http://host/v1", "m")
NAMES = st.sampled_from(
    [
        "data",
        "id",
        "owned_by",
        "max_model_len",
        "total_slots",
        "default_generation_settings",
        "n_ctx",
        "version",
        "error",
        "message",
        "type",
        "code",
        "choices",
        "finish_reason",
        "content",
        "usage",
        "prompt_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "timings",
    ]
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(LlmServerKind)
)
BODIES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)


@given(BODIES, BODIES, st.sampled_from([200, 404]))
async def test_a_probe_that_gets_any_response_finds_a_usable_server(a: Any, b: Any, status: int) -> None:
    async def get(url: str) -> LlmResponse:
        return LlmResponse(status, "llama.cpp" if status == 200 else "", a if url.endswith("/models") else b)

    server = await probe_server(get, ENDPOINT)
    assert server.slots > 0
    assert server.context > 0
    assert server.models[0] == "m"
    assert all(name.isprintable() and len(name) <= 256 for name in server.models)


@given(BODIES, st.integers(201, 599))
def test_any_response_is_read_or_leads_to_a_problem(body: Any, status: int) -> None:
    problem = problem_of(LlmResponse(status, "", body))
    assert isinstance(problem, Problem)
    assert len(problem.message) < 300
    tokens = token_usage(LlmResponse(200, "", body))
    assert min(tokens.prompt, tokens.cached, tokens.completion) >= 0
    try:
        assert isinstance(completion_text(LlmResponse(200, "", body)), str)
    except Internal as refused:
        assert refused.reason in ("BAD_ANSWER", "ANSWER_CUT")  # noqa: PT017


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("vllm", LlmServerKind.VLLM),
        ("tensorrt_llm", LlmServerKind.TRTLLM),
        ("llamacpp", LlmServerKind.LLAMA_CPP),
        ("library", LlmServerKind.OLLAMA),
        ("hf.co/somebody", LlmServerKind.OLLAMA),
        (None, LlmServerKind.OLLAMA),
    ],
)
async def test_the_kind_follows_from_the_owner_or_from_ollamas_version(
    owner: Any, kind: LlmServerKind
) -> None:
    async def get(url: str) -> LlmResponse:
        if url == "http://host/api/version":
            return LlmResponse(200, "", {"version": "0.13.1"})
        return LlmResponse(200, "nginx", {"data": [{"id": "a", "owned_by": owner}]})

    assert (await probe_server(get, ENDPOINT)).kind is kind


@pytest.mark.parametrize(
    ("body", "cached"),
    [
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 7}}, "timings": {"cache_n": 9}}, 7),
        ({"usage": {"prompt_tokens_details": None}, "timings": {"cache_n": 9}}, 9),
        ({"tokens_cached": 11}, 11),
        ({}, 0),
    ],
)
def test_cached_tokens_are_read_from_the_field_of_each_server(body: Any, cached: int) -> None:
    assert token_usage(LlmResponse(200, "", body)) == TokenUsage(0, cached, 0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"type": "exceed_context_size_error", "message": "x"}}, PromptTooLong),
        (400, {"error": {"code": "context_length_exceeded", "message": "x"}}, PromptTooLong),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 8 tokens"},
            PromptTooLong,
        ),
        (400, {"error": "the prompt exceeds max_seq_len"}, PromptTooLong),
        (500, {"error": {"message": "context length"}}, Internal),
        (429, {}, Exhausted),
        (503, None, Unavailable),
    ],
)
def test_errors_lead_to_different_problems(status: int, body: Any, kind: type[Problem]) -> None:
    assert type(problem_of(LlmResponse(status, "", body))) is kind


async def test_a_list_of_models_that_is_too_long_is_ignored() -> None:
    async def get(url: str) -> LlmResponse:
        if url.endswith("/models"):
            raise Internal("the LLM server's answer exceeds 1 bytes", "ANSWER_TOO_LONG")
        return LlmResponse(404, "", None)

    assert (await probe_server(get, ENDPOINT)).models == ("m",)


async def test_the_name_of_a_model_is_one_line_of_valid_text() -> None:
    async def get(url: str) -> LlmResponse:
        return LlmResponse(200, "", {"data": [{"id": "a\ud800\nb" + 300 * "c", "owned_by": "vllm"}]})

    _, name = (await probe_server(get, ENDPOINT)).models
    assert name.encode()
    assert (name[:4], len(name)) == ("a bc", 256)
