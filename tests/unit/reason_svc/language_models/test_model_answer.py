"""Parsing of models' answers."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Internal
from reason_svc.language_models.model_answer import (
    MAX_REASON_LENGTH,
    MAX_REASONS,
    MAX_SUMMARY_LENGTH,
    SCHEMA,
    AnswerReason,
    ModelAnswer,
    example_texts,
    parse_answer,
)
from reason_svc.language_models.prompts import load_prompts

ANSWER = {"reasons": [{"text": "a dog", "detections": [1, 2]}], "score": 12, "summary": "A dog."}
PARSED = ModelAnswer(12, "A dog.", (AnswerReason("a dog", (1, 2)),))
TEXT = json.dumps(ANSWER)
WRITTEN_REASONS: Any = ANSWER["reasons"]


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
        f'{{"score": 95, "summary": "a draft", "reasons": []}} no, rather: {TEXT}',
        f"{{{TEXT}}}",
        f"[{TEXT}]",
        f"<answer>{TEXT}</answer>",
        f"The schema is {json.dumps(SCHEMA)}. {TEXT}",
        f"{TEXT}\nThis follows {json.dumps(SCHEMA)}",
        f"```python\n{{1}}\n```\n```JSON\n{TEXT}\n```",
        f"<THINK>{{}}</THINK>{TEXT}<|im_end|>",
        f"<think/>{TEXT}",
        f"analysis of the event: {TEXT}",
        f"<tool_calls><tool_call>{{}}</tool_call></tool_calls>{TEXT}",
        f"{TEXT}<function_calls><invoke name='judge'>{{}}</invoke></function_calls>",
    ],
)
def test_the_json_object_is_found_anywhere_in_the_text(content: str) -> None:
    assert parse_answer(content) == PARSED


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ANSWER, indent=2).replace("12,", "12, // low\n"),
        json.dumps(ANSWER, indent=2).replace("12,", "12,  # low, or {\n"),
        TEXT.replace('"score"', '/* of "100" */ "score"'),
        TEXT[:-1] + ",}",
        TEXT.replace("2]", "2, ]").replace("}]", "},\n]"),
        TEXT[:-1] + ", /* nothing more */ }",
        str(ANSWER),
        str(ANSWER | {"certain": True, "by": None}),
        TEXT.replace("a dog", "a\ndog"),
        TEXT.replace('"score"', '" Score"').replace('"text"', '"TEXT"'),
    ],
)
def test_what_models_write_instead_of_json_is_read(content: str) -> None:
    assert parse_answer(content) == PARSED
    assert parse_answer(f"{DRAFT} Rather: {content}") == PARSED
    assert parse_answer(f"<think>{DRAFT}</think>```\n{content}\n```{{}}") == PARSED


@pytest.mark.parametrize(
    "quoted",
    ["http://a // b", "a, ] b", "/* a */", "'a'", "# None", "a 'dog', }"],
)
def test_what_looks_like_a_flaw_within_a_text_is_text(quoted: str) -> None:
    for content in (
        json.dumps(ANSWER | {"summary": quoted}),
        json.dumps(ANSWER | {"summary": quoted})[:-1] + ",}",
    ):
        assert parse_answer(content).summary == quoted


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"answer": ANSWER}),
        json.dumps({"result": {"data": [ANSWER]}, "certainty": 1}),
        json.dumps({"type": "object", "properties": ANSWER}),
        json.dumps([{"thinking": {"score": 99}, "final": ANSWER}]),
        json.dumps({"draft": ANSWER | {"score": 99}, "final": ANSWER}),
        json.dumps({"first": ANSWER | {"score": 99}, "second": ANSWER}),
        json.dumps(
            {"final": ANSWER, "reasoning": ANSWER | {"score": 99}, "tool_call": ANSWER | {"score": 98}}
        ),
    ],
)
def test_an_answer_may_be_a_member_of_an_object(content: str) -> None:
    assert parse_answer(content) == PARSED


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"name": "judge", "arguments": ANSWER}),
        json.dumps({"name": "judge", "parameters": ANSWER}),
        json.dumps({"tool_calls": [{"function": {"name": "judge", "arguments": TEXT}}]}),
        json.dumps({"thoughts": ANSWER}),
        json.dumps({"answer": {"score": 12}}),
        json.dumps({"a": {"b": {"c": {"d": {"e": {"f": ANSWER}}}}}}),
    ],
)
def test_a_member_that_is_not_the_answer_is_none(content: str) -> None:
    with pytest.raises(Internal, match="no JSON object with a score"):
        parse_answer(content)
    assert parse_answer(content + TEXT) == parse_answer(TEXT + content) == PARSED


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


DRAFT = json.dumps(ANSWER | {"score": 99, "summary": "A draft."})
REASONING = [
    ("<think>", "</think>"),
    ("<think>\n", "\n</THINK >"),
    ('<thinking time="3">', "</thinking>"),
    ("<thinking>", "</think>"),
    ("<Reasoning>", "</Reasoning>"),
    ("<thought>", "</thought>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
    ("<scratchpad>", "</scratchpad>"),
    ("< think >", "</ think >"),
    ("<deepthink>", "</deepthink>"),
    ("<ChainOfThought>", "</ChainOfThought>"),
    ("<cot>", "</cot>"),
    ("<plan>", "</plan>"),
    ("<internal>", "</internal>"),
    ("<justification>", "</justification>"),
    ('<details type="reasoning" done="true">', "</details>"),
    ("<|CHANNEL|>ANALYSIS<|MESSAGE|>", "<|END|><|START|>ASSISTANT<|CHANNEL|>FINAL<|MESSAGE|>"),
    ("<|tool_call>call:judge", "<tool_call|>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<think><think>", "</think>"),
    ("<think>use <tool_call> or </tool_call>", "</think>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    (
        "<|channel|>commentary to=functions.judge <|constrain|>json<|message|>",
        "<|call|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    ),
    ("<|channel>thought\n", "<channel|>"),
    ("analysisWe need to judge. ", "assistantfinal"),
    ("analysis", "assistantcommentary hm assistantfinal"),
    ("<tool_call>", "</tool_call>"),
    ("<|tool_call_begin|>judge", "<|tool_call_end|>"),
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    ("<function=judge>", "</function>"),
    ('<invoke name="judge">', "</invoke>"),
    ("[TOOL_CALLS]", "[/TOOL_CALLS]"),
    ("```thinking\n", "\n```\n"),
    ("```tool_code\n", "\n```\n"),
]


@pytest.mark.parametrize(("begin", "end"), REASONING)
def test_an_answer_in_reasoning_does_not_count(begin: str, end: str) -> None:
    for before in ("", "Let me see. "):
        if before and begin.startswith("analysis"):
            continue
        hidden = before + begin + DRAFT + end
        assert parse_answer(hidden + TEXT) == PARSED
        assert parse_answer(f"{hidden}```json\n{TEXT}\n```") == PARSED
        for unfinished in (hidden, before + begin + DRAFT, before + begin + TEXT + DRAFT):
            with pytest.raises(Internal, match="no JSON object with a score"):
                parse_answer(unfinished)
    if not begin.startswith("analysis"):  # which is a mark only at the beginning
        assert parse_answer(TEXT + begin + DRAFT) == PARSED


@pytest.mark.parametrize(
    "end", ["</think>", "</thinking>", "[/THINK]", "</tool_call>", "<channel|>", "◁/think▷"]
)
def test_everything_before_the_end_of_reasoning_without_a_beginning_is_reasoning(end: str) -> None:
    assert parse_answer(DRAFT + end + TEXT) == PARSED
    with pytest.raises(Internal):
        parse_answer(TEXT + end)


@pytest.mark.parametrize(
    "word", ["<think>", "</think>", "[THINK]", "<|channel|>analysis", "</tool_call>", "}{", "…"]
)
def test_marks_within_the_texts_of_an_answer_are_texts(word: str) -> None:
    answer = ANSWER | {"summary": f"A sign said {word}."}
    assert parse_answer(f"<think>{DRAFT}</think>{json.dumps(answer)}").score == 12


EXAMPLES = {version: prompt for version, prompt in load_prompts().items() if prompt.example}


@pytest.mark.parametrize("prompt", EXAMPLES.values(), ids=EXAMPLES)
def test_the_example_of_a_prompt_is_not_an_answer(prompt: Any) -> None:
    (example,) = [line for line in re.findall(r"{.*}", prompt.text) if '"score"' in line]
    example_object = json.loads(example)
    reason, summary = example_object["reasons"][0]["text"], example_object["summary"]
    repeated = [
        example,
        json.dumps(example_object | {"score": 40}),
        json.dumps(ANSWER | {"summary": summary}),
        json.dumps(ANSWER | {"summary": summary.upper() + "."}),
        json.dumps(ANSWER | {"summary": " ".join(summary.split()[:3])}),
        json.dumps(ANSWER | {"reasons": example_object["reasons"]}),
        json.dumps(ANSWER | {"reasons": [*WRITTEN_REASONS, {"text": f"{reason}: a dog"}]}),
        json.dumps(ANSWER | {"summary": "..."}),
        json.dumps(ANSWER | {"summary": "<summary>"}),
        json.dumps(ANSWER | {"reasons": ["string"]}),
        json.dumps(SCHEMA["properties"]),
        json.dumps(SCHEMA),
        str(example_object),
        json.dumps({"answer": example_object}),
    ]
    for one in repeated:
        with pytest.raises(Internal, match="repeats the example") as refused:
            parse_answer(one, prompt.example)
        assert refused.value.reason == "BAD_ANSWER"
        assert parse_answer(f"{one}\n{TEXT}", prompt.example) == PARSED
        assert parse_answer(f"{TEXT}\nas in {one}", prompt.example) == PARSED


@pytest.mark.parametrize("text", [
    "<reason>", "[reason]", "{reason}", "{{ reason }}", "[what happened]", "...", "___", "??", "…", "xxx",
    "$SUMMARY", "a text", "Your summary here.", "Reason 1", "one sentence", "TODO", "(summary)", "example",
    "Short description of the text",
])  # fmt: skip
def test_a_text_that_stands_for_another_is_not_an_answer(text: str) -> None:
    formats = [
        ANSWER | {"score": 0, "summary": text},
        ANSWER | {"reasons": [text]},
        ANSWER | {"reasons": [*WRITTEN_REASONS, {"text": text, "detections": []}]},
    ]
    for one in map(json.dumps, formats):
        with pytest.raises(Internal, match="repeats the example"):
            parse_answer(one)
        assert parse_answer(one + TEXT) == parse_answer(TEXT + one) == PARSED


@pytest.mark.parametrize("score", ["<0-100>", "0-100", "0 to 100", "integer", "a number", "…"])
def test_a_score_that_stands_for_another_is_not_an_answer(score: str) -> None:
    one = json.dumps(ANSWER | {"score": score})
    with pytest.raises(Internal, match="repeats the example"):
        parse_answer(one)
    assert parse_answer(TEXT + one) == PARSED


@pytest.mark.parametrize(
    "texts", [{}, {"summary": "", "reasons": []}, {"summary": None, "reasons": [{"text": " "}]}]
)
def test_the_zero_of_the_format_without_a_text_is_not_an_answer(texts: dict[str, Any]) -> None:
    with pytest.raises(Internal, match="repeats the example"):
        parse_answer(json.dumps({"score": 0} | texts))
    assert parse_answer(json.dumps({"score": 40} | texts)).score == 40
    for score in (0, 40):
        assert parse_answer(TEXT + json.dumps({"score": score} | texts)) == PARSED


@pytest.mark.parametrize(
    "text",
    [
        "One person",
        "Two",
        "A number plate",
        "text message on a sign",
        "0",
        "1 of 2",
        "N/A",
        "[Door] a dog",
        "!",
    ],
)
def test_a_short_text_is_a_text(text: str) -> None:
    assert parse_answer(json.dumps(ANSWER | {"score": 0, "summary": text})).summary == text


def test_a_prompt_without_an_example_has_no_example_texts() -> None:
    assert example_texts("Judge. {} {not JSON}") == frozenset()


@pytest.mark.parametrize(
    "content",
    [
        '{"reasons": [{"text": "a", "score": 3}], "score": 80, "summary": "a "dog""}',
        '{"reasons": [{"text": "a"}, {"score": 3, "summary": "b"}] "score": 80}',
        '{"score": 3, "draft": {"score": 4}, "score": 5',
    ],
)
def test_a_part_of_a_broken_answer_is_not_an_answer(content: str) -> None:
    with pytest.raises(Internal, match="no JSON object with a score"):
        parse_answer(content)


def test_two_scores_in_one_answer_are_none() -> None:
    with pytest.raises(Internal, match="whole number"):
        parse_answer(TEXT[:-1] + ', "score": 13}')


def test_a_text_of_opening_braces_is_refused_soon() -> None:
    with pytest.raises(Internal, match="too many braces"):
        parse_answer('{"a":"' * 40_000 + TEXT)


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
    written = [{"text": f"seen: {text}", "detections": [1]} for text in reasons]
    answer_object = {"reasons": written, "score": score, "summary": f"seen: {summary}"}
    assert parse_answer(json.dumps(answer_object)).score == score
