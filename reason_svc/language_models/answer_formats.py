"""The formats in which a server can be asked for an answer, and which of them it accepts."""

from enum import Enum, StrEnum

import structlog

from reason_svc.language_models.responses import LlmResponse

log = structlog.get_logger(__name__)

# Statuses by which servers refuse a field or a value that they do not know, whatever they say about it.
REFUSALS = (400, 406, 415, 422, 424, 501)
# With these statuses, the message must be about the format.
UNCLEAR_REFUSALS = (404, 405, 409, 500)
FORMAT_PHRASES = (
    "response_format",
    "response format",
    "responseformat",
    "schema",
    "json_object",
    "json object",
    "json mode",
    "grammar",
    "guided",
    "structured",
    "constrained",
    "outlines",
    "enforcer",
)
# With this status, and without more than such a word, the server may have stumbled over the format.
FAILURE, FAILURE_WORD = 500, "internal"


class Refusal(Enum):
    """What an error says about the format that was asked for."""

    NONE = "nothing"
    POSSIBLE = "it may be refused"  # another format is worth a try, but its success proves nothing
    LIKELY = "it is refused, if another one is accepted"


class AnswerFormat(StrEnum):
    """From the strictest to the one that every server accepts, which is no `response_format` at all."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


class AnswerFormats:
    """Remembers for each model of a server the strictest format that it accepts, until the server changes."""

    def __init__(self) -> None:
        self._accepted: dict[str, AnswerFormat] = {}
        self._changes = 0

    def candidates(self, model: str, changes: int) -> list[AnswerFormat]:
        """Returns the formats to try, in order. `changes` counts the changes of the server."""
        if changes != self._changes:
            self._accepted.clear()
            self._changes = changes
        formats = list(AnswerFormat)
        return formats[formats.index(self._accepted.get(model, formats[0])) :]

    def record_accepted(self, model: str, accepted: AnswerFormat) -> None:
        if accepted is not self._accepted.get(model, AnswerFormat.JSON_SCHEMA):
            log.warning("the LLM server refuses stricter formats of answers", model=model, asked_for=accepted)
            self._accepted[model] = accepted

    def forget(self, model: str) -> None:
        """All candidates were refused, so what was accepted once says nothing any more."""
        self._accepted.pop(model, None)


def format_refusal(response: LlmResponse, message: str) -> Refusal:
    """`message` is the server's own; empty if it gave none."""
    words = message.lower()
    if response.status in REFUSALS:
        return Refusal.LIKELY
    if response.status in UNCLEAR_REFUSALS and any(phrase in words for phrase in FORMAT_PHRASES):
        return Refusal.LIKELY
    is_vague = response.status == FAILURE and (not words or FAILURE_WORD in words)
    return Refusal.POSSIBLE if is_vague else Refusal.NONE
