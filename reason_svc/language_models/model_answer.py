"""The schema of a model's answer, and its parser, which is tolerant of form but never guesses."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.problems import Internal
from reason_svc.plain_text import plain_text

MAX_REASONS = 4
MAX_REASON_LENGTH = 200
MAX_SUMMARY_LENGTH = 300
MAX_LINE_NUMBERS = 16
BAD_ANSWER = "BAD_ANSWER"

# The reasons precede the score, because a model thinks in the order in which it writes. Every string and list
# is bounded. The schema is part of every prompt hash.
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "reasons": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_REASONS,
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "maxLength": 160},
                    "detections": {"type": "array", "maxItems": 8, "items": {"type": "integer"}},
                },
                "required": ["text", "detections"],
                "additionalProperties": False,
            },
        },
        "score": {"type": "integer", "minimum": 0, "maximum": 100},
        "summary": {"type": "string", "maxLength": 240},
    },
    "required": ["reasons", "score", "summary"],
    "additionalProperties": False,
}

_DECODER = json.JSONDecoder()
_MAX_ATTEMPTS = 64
_INTEGER = re.compile(r"\s*(\d{1,3})(?:\.0*)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnswerReason:
    """`line_numbers` are those that the model wrote; lines with these numbers may not exist."""

    text: str
    line_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """`score` is 0..100; `summary` is empty if the model gave none."""

    score: int
    summary: str
    reasons: tuple[AnswerReason, ...]


def parse_answer(content: str) -> ModelAnswer:
    """Parses the first JSON object in `content` that has a score.

    Raises Internal BAD_ANSWER, with a message that tells the model what is wrong. A score is accepted as it
    is or refused: it is never clamped, rounded or guessed.
    """
    for found in _json_objects(_without_thoughts(content)):
        if "score" in found:
            summary = found.get("summary")
            return ModelAnswer(
                _score(found["score"]),
                plain_text(summary, MAX_SUMMARY_LENGTH) if isinstance(summary, str) else "",
                _reasons(found.get("reasons")),
            )
    raise Internal("there is no JSON object with a score in it", BAD_ANSWER)


def _without_thoughts(content: str) -> str:
    """Removes what the model thought aloud. A thought without an end extends to the end of the text."""
    after = content.rpartition("</think>")[2]
    return after.partition("<think>")[0]


def _json_objects(text: str) -> Iterator[dict[str, object]]:
    at = -1
    for _ in range(_MAX_ATTEMPTS):
        if (at := text.find("{", at + 1)) < 0:
            return
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        yield found
        at = end - 1


def _score(value: object) -> int:
    score = _integer(value)
    if score is None or score > 100:
        raise Internal("score is not a whole number from 0 to 100", BAD_ANSWER)
    return score


def _reasons(value: object) -> tuple[AnswerReason, ...]:
    entries = value if isinstance(value, list) else [value]
    reasons = (_reason(entry) for entry in entries[: 4 * MAX_REASONS])
    return tuple(reason for reason in reasons if reason.text)[:MAX_REASONS]


def _reason(entry: object) -> AnswerReason:
    if not isinstance(entry, dict):
        entry = {"text": entry}
    text, numbers = entry.get("text"), entry.get("detections")
    numbers = numbers if isinstance(numbers, list) else [numbers]
    integers = (_integer(number) for number in numbers[:MAX_LINE_NUMBERS])
    return AnswerReason(
        plain_text(text, MAX_REASON_LENGTH) if isinstance(text, str) else "",
        tuple(dict.fromkeys(number for number in integers if number is not None)),
    )


def _integer(value: object) -> int | None:
    """Returns 85 for 85, 85.0 and "85", and None for anything else."""
    match = _INTEGER.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    return int(match[1]) if match else None
