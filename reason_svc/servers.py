"""The kinds of LLM servers: how each is recognised and asked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mesh.problems import Internal
from reason_svc.address import Address, Kind
from reason_svc.answer import SCHEMA
from reason_svc.evidence import plain_text
from reason_svc.families import Family
from reason_svc.replies import ANSWER_TOO_LONG, Reply, member, members, refusal, whole

DEFAULT_CONTEXT = 4096  # Ollama's own, which it cuts a prompt to without a word
DEFAULT_SLOTS = {Kind.OLLAMA: 1}
SLOTS = 4  # of servers that batch by themselves
MOST_MODELS = 64
MOST_NAME = 256

OWNERS = {"llamacpp": Kind.LLAMA_CPP, "tensorrt_llm": Kind.TRTLLM, "vllm": Kind.VLLM, "library": Kind.OLLAMA}

Message = dict[str, str]


Get = Callable[[str], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Server:
    """A server as it was last seen. `context` is in tokens, of one slot; `counts`: it tells how
    many a text has."""

    kind: Kind
    models: tuple[str, ...]
    slots: int
    context: int
    counts: bool = False


async def look(get: Get, address: Address) -> Server:
    """Asks the server what it is. Raises what its refusal means: a key that is not taken, a model that is
    being read."""
    listing = await _listing(get, address)
    if listing.status in (401, 403, 429) or listing.status >= 500:
        raise refusal(listing)
    cards = [card for card in members(listing.body, "data") if isinstance(card, dict)][:MOST_MODELS]
    kind = address.kind or await _recognise(get, address, listing, cards)
    names = tuple(plain_text(str(card["id"]), MOST_NAME) for card in cards if card.get("id"))
    context = next((card["max_model_len"] for card in cards if whole(card.get("max_model_len"))), 0)
    slots = DEFAULT_SLOTS.get(kind, SLOTS)
    if kind is Kind.LLAMA_CPP:
        props = await get(f"{address.root}/props")
        if props.status == 503:
            raise refusal(props)
        slots = whole(member(props.body, "total_slots")) or slots
        context = whole(member(member(props.body, "default_generation_settings"), "n_ctx"))
        # One model under any name; only a router of several means what it says.
        names = names if len(names) > 1 else ()
    return Server(
        kind,
        tuple(dict.fromkeys((address.model, *names))),
        address.slots or slots,
        address.context or context or DEFAULT_CONTEXT,
        counts=kind is Kind.LLAMA_CPP,
    )


def chat_body(
    kind: Kind, family: Family, model: str, messages: list[Message], most_tokens: int
) -> dict[str, object]:
    """A request for POST /chat/completions, with no field that this kind might refuse."""
    wanted = {"name": "judgement", "strict": kind is not Kind.OPENAI, "schema": SCHEMA}
    body: dict[str, object] = {
        "model": model,
        "messages": messages,
        "max_tokens": most_tokens,
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": wanted},
    }
    if kind is Kind.LLAMA_CPP:
        body["cache_prompt"] = True
    if family is Family.NEMOTRON_3_NANO and kind is Kind.OLLAMA:
        body["reasoning_effort"] = "none"
    elif family is Family.NEMOTRON_3_NANO:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    return body


async def _listing(get: Get, address: Address) -> Reply:
    try:
        return await get(f"{address.base}/models")
    except Internal as problem:
        if problem.reason != ANSWER_TOO_LONG:
            raise
        return Reply(200, "", None)  # a router of very many models still judges with ours


async def _recognise(get: Get, address: Address, listing: Reply, cards: list[dict[str, Any]]) -> Kind:
    if listing.server.startswith("llama.cpp"):
        return Kind.LLAMA_CPP
    for card in cards:
        if kind := OWNERS.get(str(card.get("owned_by"))):
            return kind
    ollama = await get(f"{address.root}/api/version")
    return Kind.OLLAMA if ollama.status == 200 and member(ollama.body, "version") else Kind.OPENAI
