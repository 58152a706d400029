"""The kinds of LLM servers: how to recognise them, and the requests that they accept."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mesh.problems import Internal
from reason_svc.language_models.answer_formats import AnswerFormat
from reason_svc.language_models.model_answer import SCHEMA
from reason_svc.language_models.model_families import ModelFamily
from reason_svc.language_models.responses import (
    ANSWER_TOO_LONG,
    LlmResponse,
    member,
    member_list,
    positive_integer,
    problem_of,
)
from reason_svc.language_models.url import LlmEndpoint, LlmServerKind
from reason_svc.plain_text import plain_text

DEFAULT_CONTEXT = 4096  # that of Ollama, which silently cuts longer prompts
DEFAULT_SLOTS = 4  # for servers that batch requests
SLOTS_OF_KIND = {LlmServerKind.OLLAMA: 1}
MAX_MODELS = 64
SEED = 1  # any: the temperature is 0, but servers draw numbers elsewhere, too
MAX_NAME_LENGTH = 256

# `owned_by` in the list of models.
OWNERS = {
    "llamacpp": LlmServerKind.LLAMA_CPP,
    "tensorrt_llm": LlmServerKind.TRTLLM,
    "vllm": LlmServerKind.VLLM,
    "library": LlmServerKind.OLLAMA,
}

Message = dict[str, str]

Get = Callable[[str], Awaitable[LlmResponse]]


@dataclass(frozen=True, slots=True)
class LlmServer:
    """A server as of its last probe. `context` is the number of tokens of one slot; `counts_tokens` means
    that the server has an endpoint for counting the tokens of a text."""

    kind: LlmServerKind
    models: tuple[str, ...]
    slots: int
    context: int
    counts_tokens: bool = False


async def probe_server(get: Get, endpoint: LlmEndpoint) -> LlmServer:
    """Asks the server for its kind, models, slots and context. Raises the Problem that the server's error
    stands for, for example that it refuses the key or is loading its model."""
    listing = await _list_models(get, endpoint)
    if listing.status in (401, 403, 429) or listing.status >= 500:
        raise problem_of(listing)
    cards = [card for card in member_list(listing.body, "data") if isinstance(card, dict)][:MAX_MODELS]
    kind = endpoint.kind or await _recognise(get, endpoint, listing, cards)
    names = tuple(plain_text(str(card["id"]), MAX_NAME_LENGTH) for card in cards if card.get("id"))
    lengths = (positive_integer(card.get("max_model_len")) for card in cards)
    context = next((length for length in lengths if length), 0)
    slots = SLOTS_OF_KIND.get(kind, DEFAULT_SLOTS)
    if kind is LlmServerKind.LLAMA_CPP:
        props = await get(f"{endpoint.root}/props")
        if props.status == 503:
            raise problem_of(props)
        slots = positive_integer(member(props.body, "total_slots")) or slots
        context = positive_integer(member(member(props.body, "default_generation_settings"), "n_ctx"))
        # A llama.cpp server with one model accepts any name; only with several does the name matter.
        names = names if len(names) > 1 else ()
    return LlmServer(
        kind,
        tuple(dict.fromkeys((endpoint.model, *names))),
        endpoint.slots or slots,
        endpoint.context or context or DEFAULT_CONTEXT,
        counts_tokens=kind is LlmServerKind.LLAMA_CPP,
    )


def chat_request(
    kind: LlmServerKind,
    family: ModelFamily,
    model: str,
    messages: list[Message],
    max_tokens: int,
    answer_format: AnswerFormat = AnswerFormat.JSON_SCHEMA,
    *,
    schema: dict[str, object] = SCHEMA,
    repeatable: bool = False,
) -> dict[str, object]:
    """Returns the body for POST /chat/completions, with only fields that this kind of server accepts.

    `repeatable`: what one request can do for the same answer to the same prompt. Only llama.cpp lets a
    request go without its cache, whose remains change the last bits of what is computed."""
    body: dict[str, object] = {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    if answer_format is not AnswerFormat.TEXT:
        response_format: dict[str, object] = {"type": answer_format.value}
        body["response_format"] = response_format
        if answer_format is AnswerFormat.JSON_SCHEMA:
            # A server may show the schema's name to the model, so it does not change.
            response_format["json_schema"] = {
                "name": "judgement",
                "strict": kind is not LlmServerKind.OPENAI,
                "schema": schema,
            }
    if kind is LlmServerKind.LLAMA_CPP:
        body["cache_prompt"] = not repeatable
    if repeatable:
        body["seed"] = SEED
    if family is ModelFamily.NEMOTRON_3_NANO:
        if kind is LlmServerKind.OLLAMA:
            body["reasoning_effort"] = "none"
        else:
            body["chat_template_kwargs"] = {"enable_thinking": False}
    return body


async def _list_models(get: Get, endpoint: LlmEndpoint) -> LlmResponse:
    try:
        return await get(f"{endpoint.base}/models")
    except Internal as problem:
        if problem.reason != ANSWER_TOO_LONG:
            raise
        # A router may list too many models to read, and still serve the configured one.
        return LlmResponse(200, "", None)


async def _recognise(
    get: Get, endpoint: LlmEndpoint, listing: LlmResponse, cards: list[dict[str, Any]]
) -> LlmServerKind:
    if listing.server.startswith("llama.cpp"):
        return LlmServerKind.LLAMA_CPP
    for card in cards:
        if kind := OWNERS.get(str(card.get("owned_by"))):
            return kind
    version = await get(f"{endpoint.root}/api/version")
    is_ollama = version.status == 200 and member(version.body, "version")
    return LlmServerKind.OLLAMA if is_ollama else LlmServerKind.OPENAI
