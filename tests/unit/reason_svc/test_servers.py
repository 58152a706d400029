"""Servers that say anything at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.address import Address, Kind
from reason_svc.replies import Reply, TooLong, refusal, said, tokens_of
from reason_svc.servers import look
from reason_svc.verdict import Tokens

ADDRESS = Address("http://host/v1", "m")
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
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(Kind)
BODIES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)


@given(BODIES, BODIES, st.sampled_from([200, 404]))
async def test_a_look_at_anything_finds_a_server_that_can_be_asked(a: Any, b: Any, status: int) -> None:
    async def get(url: str) -> Reply:
        return Reply(status, "llama.cpp" if status == 200 else "", a if url.endswith("/models") else b)

    server = await look(get, ADDRESS)
    assert server.slots > 0
    assert server.context > 0
    assert server.models[0] == "m"
    assert all(name.isprintable() and len(name) <= 256 for name in server.models)


@given(BODIES, st.integers(201, 599))
def test_any_answer_is_understood_or_a_problem(body: Any, status: int) -> None:
    problem = refusal(Reply(status, "", body))
    assert isinstance(problem, Problem)
    assert len(problem.message) < 300
    tokens = tokens_of(Reply(200, "", body))
    assert min(tokens.prompt, tokens.cached, tokens.completion) >= 0
    try:
        assert isinstance(said(Reply(200, "", body)), str)
    except Internal as refused:
        assert refused.reason in ("BAD_ANSWER", "ANSWER_CUT")  # noqa: PT017


@pytest.mark.parametrize(
    ("owner", "kind"),
    [("vllm", Kind.VLLM), ("tensorrt_llm", Kind.TRTLLM), ("llamacpp", Kind.LLAMA_CPP),
     ("library", Kind.OLLAMA), ("hf.co/somebody", Kind.OLLAMA), (None, Kind.OLLAMA)],
)  # fmt: skip
async def test_kinds_are_known_by_owner_and_ollama_by_its_own_page(owner: Any, kind: Kind) -> None:
    async def get(url: str) -> Reply:
        if url == "http://host/api/version":
            return Reply(200, "", {"version": "0.13.1"})
        return Reply(200, "nginx", {"data": [{"id": "a", "owned_by": owner}]})

    assert (await look(get, ADDRESS)).kind is kind


@pytest.mark.parametrize(
    ("body", "cached"),
    [
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 7}}, "timings": {"cache_n": 9}}, 7),
        ({"usage": {"prompt_tokens_details": None}, "timings": {"cache_n": 9}}, 9),
        ({"tokens_cached": 11}, 11),
        ({}, 0),
    ],
)
def test_cached_tokens_are_found_where_each_server_puts_them(body: Any, cached: int) -> None:
    assert tokens_of(Reply(200, "", body)) == Tokens(0, cached, 0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"type": "exceed_context_size_error", "message": "x"}}, TooLong),
        (400, {"error": {"code": "context_length_exceeded", "message": "x"}}, TooLong),
        (400, {"object": "error", "message": "This model's maximum context length is 8 tokens"}, TooLong),
        (400, {"error": "the prompt exceeds max_seq_len"}, TooLong),
        (500, {"error": {"message": "context length"}}, Internal),
        (429, {}, Exhausted),
        (503, None, Unavailable),
    ],
)
def test_refusals_are_told_apart(status: int, body: Any, kind: type[Problem]) -> None:
    assert type(refusal(Reply(status, "", body))) is kind


async def test_a_listing_too_long_to_read_is_none() -> None:
    async def get(url: str) -> Reply:
        if url.endswith("/models"):
            raise Internal("the LLM server's answer exceeds 1 bytes", "ANSWER_TOO_LONG")
        return Reply(404, "", None)

    assert (await look(get, ADDRESS)).models == ("m",)


async def test_the_name_of_a_model_is_one_line_that_can_be_sent_on() -> None:
    async def get(url: str) -> Reply:
        return Reply(200, "", {"data": [{"id": "a\ud800\nb" + 300 * "c", "owned_by": "vllm"}]})

    _, name = (await look(get, ADDRESS)).models
    assert name.encode()
    assert (name[:4], len(name)) == ("a bc", 256)
