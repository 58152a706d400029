"""The HTTP responses of LLM servers: completions, token counts and errors."""

import json
from dataclasses import dataclass, replace
from typing import Any

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.plain_text import plain_text
from reason_svc.reasoner import TokenUsage

MAX_TOKENS = 2**30
MAX_ERROR_LENGTH = 200
TEXT_CHUNKS = ("text", "output_text")
ANSWER_TOO_LONG = "ANSWER_TOO_LONG"  # longer than the client reads
UNREACHABLE = "LLM_UNREACHABLE"
DROPPED = "LLM_DROPPED"  # there was a connection, and it broke
# Parts of the messages by which servers reject a prompt that exceeds their context.
TOO_LONG_PHRASES = (
    "context length",
    "context size",
    "max_seq_len",
    "max_num_tokens",
    "max_input_len",
    "too long",
)


@dataclass(frozen=True, slots=True)
class LlmResponse:
    """`server` is the `Server` header. `body` is the decoded JSON, or None if the body is not JSON."""

    status: int
    server: str
    body: Any


class PromptTooLong(Internal):
    """The prompt does not fit into the server's context."""


def problem_of(response: LlmResponse) -> Problem:
    """Returns the Problem for a status other than 200, with the server's error message, shortened."""
    error = error_message(response)
    message = f"the LLM server answered {response.status}{f': {error}' if error else ''}"
    if response.status == 503:
        return Unavailable(message, "LLM_LOADING")
    if response.status in (502, 504):  # from a proxy whose server is away
        return Unavailable(message, "LLM_UNREACHABLE")
    if response.status == 429:
        return Exhausted(message, "LLM_BUSY")
    if response.status in (401, 403):
        return Internal(f"the LLM server refuses the key ({response.status})", "LLM_DENIED")
    if response.status in (400, 413, 422) and _is_too_long(response.body, error):
        return PromptTooLong(message, "PROMPT_TOO_LONG")
    return Internal(message, "LLM_FAILED" if response.status >= 500 else "LLM_REFUSED")


def completion_text(response: LlmResponse) -> str:
    """Returns the text of a chat completion. Raises Internal: ANSWER_CUT if the model reached its limit of
    tokens, BAD_ANSWER if the body is not a chat completion."""
    choices = member_list(response.body, "choices")
    choice = choices[0] if choices else None
    if member(choice, "finish_reason") == "length":
        raise Internal("the model did not finish within its limit of tokens", "ANSWER_CUT")
    content = member(member(choice, "message"), "content")
    if isinstance(content, list):  # of chunks: those of other types are reasoning
        texts = (member(chunk, "text") for chunk in content if member(chunk, "type") in TEXT_CHUNKS)
        content = "".join(text for text in texts if isinstance(text, str))
    if isinstance(content, dict):  # from a router that has parsed it
        content = json.dumps(content)
    if not isinstance(content, str):
        raise Internal("the LLM server's answer is not a chat completion", "BAD_ANSWER")
    return content


def token_usage(response: LlmResponse) -> TokenUsage:
    """Returns the tokens that a completion used. A count that the server does not report is 0."""
    usage = member(response.body, "usage")
    cached = (
        member(member(usage, "prompt_tokens_details"), "cached_tokens"),
        member(member(response.body, "timings"), "cache_n"),
        member(response.body, "tokens_cached"),
    )
    return TokenUsage(
        positive_integer(member(usage, "prompt_tokens")),
        next((positive_integer(count) for count in cached if count is not None), 0),
        positive_integer(member(usage, "completion_tokens")),
    )


def _is_too_long(body: object, message: str) -> bool:
    error = member(body, "error")
    if member(error, "type") == "exceed_context_size_error":  # llama.cpp
        return True
    if member(error, "code") == "context_length_exceeded":
        return True
    return any(phrase in message for phrase in TOO_LONG_PHRASES)


def with_true_status(response: LlmResponse) -> LlmResponse:
    """Returns the response to a request for a completion with the status that it stands for: routers send
    errors with status 200, too."""
    error = member(response.body, "error")
    if response.status != 200 or not error or member_list(response.body, "choices"):
        return response
    code = member(error, "code")
    is_status = type(code) is int and 400 <= code < 600
    return replace(response, status=code if is_status else 500)


def error_message(response: LlmResponse) -> str:
    """Returns what a server says about an error, shortened; empty if it says nothing."""
    return plain_text(_stated_error(response.body), MAX_ERROR_LENGTH)


def _stated_error(body: object) -> str:
    """TensorRT-LLM puts the message at the top level, or sends a bare string; FastAPI sends a `detail`."""
    error = member(body, "error") or body
    message = member(error, "message") or member(error, "detail") or error
    if isinstance(message, list):  # of what FastAPI finds wrong with a request
        message = "; ".join(str(member(entry, "msg")) for entry in message)
    return message if isinstance(message, str) else ""


def member(value: object, name: str) -> Any:
    """Returns the member of a JSON object; None if there is no such member or `value` is not an object."""
    return value.get(name) if isinstance(value, dict) else None


def member_list(value: object, name: str) -> list[Any]:
    """Returns the member of a JSON object if it is an array, else an empty list."""
    found = member(value, name)
    return found if isinstance(found, list) else []


def positive_integer(value: object) -> int:
    """Returns `value` if it is an integer within bounds, else 0."""
    return value if type(value) is int and 0 < value < MAX_TOKENS else 0
