"""The schema of a model's answer, and its parser, which is tolerant of form but never guesses."""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, cast

from mesh.problems import Internal
from reason_svc.language_models.final_objects import FinalObject, final_objects, section_of
from reason_svc.language_models.stand_ins import is_stand_in, plain_words
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

# That of the prompts v2: two questions in words are answered before the score.
_ASSESSED: dict[str, object] = {
    "real": {"type": "string", "enum": ["certain", "likely", "doubtful"]},
    "matters": {"type": "string", "enum": ["nobody", "someday", "soon", "immediately"]},
}
_V1_PROPERTIES = cast(dict[str, object], SCHEMA["properties"])
SCHEMA_V2: dict[str, object] = SCHEMA | {
    "properties": {"reasons": _V1_PROPERTIES["reasons"], **_ASSESSED, **_V1_PROPERTIES},
    "required": ["reasons", *_ASSESSED, "score", "summary"],
}

# For a model that repeats an example.
DESCRIPTION = (
    "its members are `reasons` (a list of objects with the members `text` and `detections`), `score`"
    " (a number) and `summary` (a text)"
)
# What an answer has beside its score.
_TEXTS = ("reasons", "summary")
# Of objects in which an answer may be.
_MAX_DEPTH = 4
# Members that hold what was asked of a tool.
_TOOL_MEMBERS = frozenset({"arguments", "parameters"})
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


class ExampleRepeated(Internal):
    """The model wrote the prompt's example, or the format of an answer, and no answer."""


def parse_answer(content: str, example: Set[str] = frozenset()) -> ModelAnswer:
    """Parses the last complete answer in `content` that is not part of the model's reasoning.

    An answer is a JSON object with a score; it is complete if it has reasons and a summary, too. Others
    count only if there is no complete one. Objects that repeat a text of `example`, as `example_texts`
    returns them, are no answers.

    Raises Internal BAD_ANSWER, with a message that tells the model what is wrong. A score is accepted as it
    is or refused: it is never clamped, rounded or guessed.
    """
    try:
        scored = [answer for found in final_objects(content) for answer in _scored(found)]
    except ValueError:
        raise Internal("there are too many braces in it", BAD_ANSWER) from None
    answers = [answer for answer in scored if not _repeats(answer, example)]
    if not answers:
        if scored:
            raise ExampleRepeated("it repeats the example instead of an answer", BAD_ANSWER)
        raise Internal("there is no JSON object with a score in it", BAD_ANSWER)
    most = max(map(_completeness, answers))
    answer = [members for members in answers if _completeness(members) == most][-1]
    summary = answer.get("summary")
    return ModelAnswer(
        _score(answer["score"]),
        plain_text(summary, MAX_SUMMARY_LENGTH) if isinstance(summary, str) else "",
        _reasons(answer.get("reasons")),
    )


def example_texts(prompt: str) -> frozenset[str]:
    """Returns the texts that stand for a real one in the example answers of a prompt."""
    return frozenset(
        plain_words(text)
        for example in _examples(prompt)
        for name in _TEXTS
        for text in _texts(example.members, name)
    )


def without_examples(prompt: str) -> str:
    """Returns the prompt with a description of the answer in place of its example answers."""
    for example in reversed(_examples(prompt)):
        prompt = prompt[: example.start] + DESCRIPTION + prompt[example.end :]
    return prompt


def _examples(prompt: str) -> list[FinalObject]:
    return [found for found in final_objects(prompt) if "score" in found.members]


def _scored(found: FinalObject) -> Iterator[dict[str, Any]]:
    """Returns the answers that the object is or holds. A part of broken JSON, and a member of another object,
    is an answer only if it has all members of one."""
    if "score" not in found.members:
        yield from filter(_has_all, _members_with_score(found.members))
    elif not found.is_part or _has_all(found.members):
        yield found.members


def _members_with_score(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _members_with_score(entry, depth + 1)
    elif isinstance(value, dict) and "score" in value:
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            if name not in _TOOL_MEMBERS and section_of(name) is None:
                yield from _members_with_score(member, depth + 1)


def _has_all(members: dict[str, Any]) -> bool:
    return all(name in members for name in _TEXTS)


def _completeness(members: dict[str, Any]) -> int:
    return sum(any(text.strip() for text in _texts(members, name)) for name in _TEXTS)


def _repeats(members: dict[str, Any], example: Set[str]) -> bool:
    """Whether it is the format of an answer: a text only stands for a real one, the score is a type, or it
    is the 0 of the examples without a text."""
    score = members["score"]
    if isinstance(score, dict) and "type" in score:
        return True
    if _completeness(members) == 0 and _integer(score) == 0:
        return True
    texts = [text for name in ("score", *_TEXTS) for text in _texts(members, name)]
    return any(is_stand_in(text, example) for text in texts)


def _texts(members: dict[str, Any], name: str) -> list[str]:
    """Returns the texts of a member: of the summary, or of the reasons."""
    value = members.get(name)
    entries = value if isinstance(value, list) else [value]
    texts = (entry.get("text") if isinstance(entry, dict) else entry for entry in entries)
    return [text for text in texts if isinstance(text, str)]


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
