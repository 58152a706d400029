"""What an LLM server answers, and what it means."""

from dataclasses import dataclass
from typing import Any

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.evidence import plain_text
from reason_svc.verdict import Tokens

MOST_TOKENS = 2**30
ANSWER_TOO_LONG = "ANSWER_TOO_LONG"  # to be read at all
TOO_LONG = ("context length", "context size", "max_seq_len", "max_num_tokens", "max_input_len", "too long")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: the status, its `Server` header, and the JSON, None where it is none."""

    status: int
    server: str
    body: Any


class TooLong(Internal):
    """The prompt does not fit into the server's context."""


def refusal(reply: Reply) -> Problem:
    """What a status other than 200 means. Its text is the server's, cut short."""
    words = plain_text(_complaint(reply.body), 200)
    told = f"the LLM server answered {reply.status}{f': {words}' if words else ''}"
    if reply.status == 503:
        return Unavailable(told, "LLM_LOADING")
    if reply.status in (502, 504):  # a proxy, with nobody behind it
        return Unavailable(told, "LLM_UNREACHABLE")
    if reply.status == 429:
        return Exhausted(told, "LLM_BUSY")
    if reply.status in (401, 403):
        return Internal(f"the LLM server refuses the key ({reply.status})", "LLM_DENIED")
    if reply.status in (400, 413, 422) and _is_too_long(reply.body, words):
        return TooLong(told, "PROMPT_TOO_LONG")
    return Internal(told, "LLM_FAILED" if reply.status >= 500 else "LLM_REFUSED")


def said(reply: Reply) -> str:
    """The text of a 200. Raises Internal: ANSWER_CUT when the model was not done, BAD_ANSWER for anything
    that is no chat completion."""
    choices = members(reply.body, "choices")
    choice = choices[0] if choices else None
    if member(choice, "finish_reason") == "length":
        raise Internal("the model did not come to an end", "ANSWER_CUT")
    content = member(member(choice, "message"), "content")
    if not isinstance(content, str):
        raise Internal("the LLM server's answer is no chat completion", "BAD_ANSWER")
    return content


def tokens_of(reply: Reply) -> Tokens:
    """What it took, as far as the server says so."""
    usage = member(reply.body, "usage")
    cached = (
        member(member(usage, "prompt_tokens_details"), "cached_tokens"),
        member(member(reply.body, "timings"), "cache_n"),
        member(reply.body, "tokens_cached"),
    )
    return Tokens(
        whole(member(usage, "prompt_tokens")),
        next((whole(count) for count in cached if count is not None), 0),
        whole(member(usage, "completion_tokens")),
    )


def _is_too_long(body: object, words: str) -> bool:
    error = member(body, "error")
    if member(error, "type") == "exceed_context_size_error":  # llama.cpp
        return True
    return member(error, "code") == "context_length_exceeded" or any(sign in words for sign in TOO_LONG)


def _complaint(body: object) -> str:
    """TensorRT-LLM's errors are at the top, or a bare text."""
    error = member(body, "error") or body
    message = member(error, "message") or error
    return message if isinstance(message, str) else ""


def member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def members(value: object, name: str) -> list[Any]:
    found = member(value, name)
    return found if isinstance(found, list) else []


def whole(value: object) -> int:
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0
