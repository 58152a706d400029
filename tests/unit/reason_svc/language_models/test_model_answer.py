"""Parsing of models' answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Internal
from reason_svc.language_models.model_answer import (
    MAX_REASON_LENGTH,
    MAX_REASONS,
    MAX_SUMMARY_LENGTH,
    AnswerReason,
    ModelAnswer,
    parse_answer,
)

ANSWER = {"reasons": [{"text": "a dog", "detections": [1, 2]}], "score": 12, "summary": "A dog."}
PARSED = ModelAnswer(12, "A dog.", (AnswerReason("a dog", (1, 2)),))
TEXT = json.dumps(ANSWER)


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        f"\n\n{TEXT}\n\nI hope this helps! {{}}",
        f"```json\n{TEXT}\n```",
        f"<think>a score of {{'score': 99}}? or {{\"score\": 98}}</think>{TEXT}",
        f'it may be {{"score": 97}}, or not</think>\n{TEXT}',
        f"Here it is: {{ not json }} and {TEXT}",
        f"{TEXT}<think>now what",
        f'{{"note": 1}}{TEXT}{{"score": 96}}',
    ],
)
def test_the_json_object_is_found_anywhere_in_the_text(content: str) -> None:
    assert parse_answer(content) == PARSED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": "12"}, PARSED),
        ({"score": 12.0}, PARSED),
        ({"score": " 12.00 "}, PARSED),
        ({"summary": None}, ModelAnswer(12, "", PARSED.reasons)),
        ({"summary": ["A dog."]}, ModelAnswer(12, "", PARSED.reasons)),
        ({"summary": "A\n\ud800 dog.\x00"}, PARSED),
        ({"reasons": None}, ModelAnswer(12, "A dog.", ())),
        ({"reasons": "a dog"}, ModelAnswer(12, "A dog.", (AnswerReason("a dog"),))),
        ({"reasons": ["a dog", 7, None]}, ModelAnswer(12, "A dog.", (AnswerReason("a dog"),))),
        (
            {"reasons": {"text": "a dog", "detections": 3}},
            ModelAnswer(12, "A dog.", (AnswerReason("a dog", (3,)),)),
        ),
        ({"reasons": [{"text": "a dog", "detections": ["1", 2.0, 2, -3, None, "x", 1e9]}]}, PARSED),
        ({"more": {"of": "this"}}, PARSED),
    ],
)
def test_wrong_types_are_tolerated(change: dict[str, Any], expected: ModelAnswer) -> None:
    assert parse_answer(json.dumps(ANSWER | change)) == expected


@pytest.mark.parametrize(
    "score", [101, -1, 1000, 12.5, 0.85, "85/100", "high", "", None, True, [12], {"value": 12}, 1e400, "٣"]
)
def test_a_score_is_never_clamped_rounded_or_guessed(score: Any) -> None:
    with pytest.raises(Internal, match="whole number from 0 to 100") as refused:
        parse_answer(json.dumps(ANSWER | {"score": score}))
    assert refused.value.reason == "BAD_ANSWER"


@pytest.mark.parametrize(
    "content",
    ["", "no", TEXT[:-1], TEXT[: len(TEXT) // 2], f"<think>{TEXT}", "[]", '{"summary": "A dog."}', "{" * 9999,
     '{"score":' * 9999, '{"score": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_text_without_an_answer_is_refused(content: str) -> None:
    with pytest.raises(Internal) as refused:
        parse_answer(content)
    assert refused.value.reason == "BAD_ANSWER"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(
    st.fixed_dictionaries({"score": ANYTHING, "reasons": ANYTHING, "summary": ANYTHING}), st.text(), st.text()
)
def test_any_answer_is_bounded_or_refused(answer_object: dict[str, Any], before: str, after: str) -> None:
    try:
        answer = parse_answer(before + json.dumps(answer_object) + after)
    except Internal:
        return
    assert 0 <= answer.score <= 100
    assert len(answer.summary) <= MAX_SUMMARY_LENGTH
    assert len(answer.reasons) <= MAX_REASONS
    for text in (answer.summary, *(reason.text for reason in answer.reasons)):
        assert text.isprintable()
        text.encode()
    assert all(0 < len(reason.text) <= MAX_REASON_LENGTH for reason in answer.reasons)


@given(st.integers(0, 100), st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_a_good_answer_keeps_its_score(score: int, summary: str, reasons: list[str]) -> None:
    answer_object = {"reasons": [{"text": text, "detections": [1]} for text in reasons], "score": score}
    assert parse_answer(json.dumps({**answer_object, "summary": summary})).score == score
