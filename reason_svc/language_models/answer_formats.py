"""The formats in which a server can be asked for an answer, and which of them it accepts."""

from enum import StrEnum

import structlog

from reason_svc.language_models.responses import LlmResponse

log = structlog.get_logger(__name__)

# Statuses by which servers refuse a field or a value that they do not know, whatever they say about it.
REFUSALS = (400, 422, 501)
# With these statuses, the message must be about the format.
UNCLEAR_REFUSALS = (404, 405, 415, 500)
FORMAT_PHRASES = (
    "response_format",
    "response format",
    "json_schema",
    "json schema",
    "json_object",
    "grammar",
    "guided",
    "structured",
    "xgrammar",
)


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


def may_refuse_format(response: LlmResponse, message: str) -> bool:
    """Whether an error response may mean that the server does not support the format of the answer."""
    is_about_format = any(phrase in message.lower() for phrase in FORMAT_PHRASES)
    return response.status in REFUSALS or (response.status in UNCLEAR_REFUSALS and is_about_format)
