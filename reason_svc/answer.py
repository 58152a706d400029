"""What a model answers, read with patience but without guessing."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.problems import Internal
from reason_svc.evidence import plain_text

MOST_REASONS = 4
MOST_REASON = 200
MOST_SUMMARY = 300
MOST_NUMBERS = 16
BAD_ANSWER = "BAD_ANSWER"

# Reasons before the score: a model thinks in the order in which it writes. Every string and list is bounded.
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "reasons": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_REASONS,
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
_MOST_TRIES = 64
_WHOLE = re.compile(r"\s*(\d{1,3})(?:\.0*)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reason:
    """`numbers` as the model wrote them: they may name nothing."""

    text: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """`score` is 0..100; `summary` is empty where the model gave none."""

    score: int
    summary: str
    reasons: tuple[Reason, ...]


def read_answer(content: str) -> Answer:
    """The first JSON object with a score, wherever it stands. Raises Internal BAD_ANSWER, whose message tells
    the model what is wrong. A score is taken as it is or refused: never cut, rounded or guessed."""
    for found in _objects(_spoken(content)):
        if "score" in found:
            summary = found.get("summary")
            return Answer(
                _score(found["score"]),
                plain_text(summary, MOST_SUMMARY) if isinstance(summary, str) else "",
                _reasons(found.get("reasons")),
            )
    raise Internal("there is no JSON object with a score in it", BAD_ANSWER)


def _spoken(content: str) -> str:
    """Without what was thought aloud; a thought without an end hides everything."""
    after = content.rpartition("</think>")[2]
    return after.partition("<think>")[0]


def _objects(text: str) -> Iterator[dict[str, object]]:
    at = -1
    for _ in range(_MOST_TRIES):
        if (at := text.find("{", at + 1)) < 0:
            return
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        yield found
        at = end - 1


def _score(value: object) -> int:
    score = _whole(value)
    if score is None or score > 100:
        raise Internal("score is not a whole number from 0 to 100", BAD_ANSWER)
    return score


def _reasons(value: object) -> tuple[Reason, ...]:
    entries = value if isinstance(value, list) else [value]
    reasons = (_reason(entry) for entry in entries[: 4 * MOST_REASONS])
    return tuple(reason for reason in reasons if reason.text)[:MOST_REASONS]


def _reason(entry: object) -> Reason:
    if not isinstance(entry, dict):
        entry = {"text": entry}
    text, numbers = entry.get("text"), entry.get("detections")
    numbers = numbers if isinstance(numbers, list) else [numbers]
    whole = (_whole(number) for number in numbers[:MOST_NUMBERS])
    return Reason(
        plain_text(text, MOST_REASON) if isinstance(text, str) else "",
        tuple(dict.fromkeys(number for number in whole if number is not None)),
    )


def _whole(value: object) -> int | None:
    """85 of 85, 85.0 and "85"; None of all else."""
    match = _WHOLE.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    return int(match[1]) if match else None
