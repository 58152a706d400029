"""Descriptions of events by facts: always the same, with every detection, and without instructions."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reason_svc.evidence import ExpectedVisit, HousePerson, Relation
from reason_svc.language_models.fact_prompt import NAMES_BEGIN, NAMES_END, fact_prompts
from reason_svc.language_models.prompt_sanitizer import DATA_BEGIN, DATA_END
from reason_svc.messages import evidence_of
from tests.judge.context import evidence_message
from tests.judge.labelled import read_events
from tests.unit.reason_svc.language_models.test_event_prompt import CONTROL, HOSTILE
from tests.unit.reason_svc.rules.test_v2 import RESIDENT, event, seen, stay

VISIT = event([seen(2 * step, 0.35, x=0.1 + 0.2 * step) for step in range(4)])


def test_a_description_is_always_the_same() -> None:
    named = event([*stay(0.8, 80), seen(0, 0.35, "car")], mode="away", dark=True, person=RESIDENT)
    prompt = fact_prompts(named)[0]
    person = (
        "1. person in 17 photos; was at a door (place 3) for 1 min 20 s; looked at and not known; at most 30%"
        " of the picture's height; the detector is at most 90% certain"
    )
    car = (
        "2. car in 1 photo; was on public ground (place 1) for a moment; the detector is at most 90% certain"
    )
    assert prompt.text.split("\n") == [
        "=== EVENT DATA ===",
        "time: Friday 12:00 local time, dark",
        "house: nobody is at home",
        "before: nothing in the hour before",
        "most people in one photo: 1",
        person,
        car,
        "=== END OF EVENT DATA ===",
        "",
        "=== NAMES AND NOTES ===",
        "camera: Garden",
        "place 1: street",
        "place 2: lawn",
        "place 3: door",
        "place 4: window",
        "person 1: Anna",
        "=== END OF NAMES AND NOTES ===",
    ]
    assert [line.label for line in prompt.lines] == ["person", "car"]
    assert set(prompt.detection_ids([1])) <= {
        found.id for found in named.detections if found.label == "person"
    }


def test_somebody_who_walks_past_is_said_to_pass() -> None:
    assert "passed by on public ground (place 1) in 6 s" in fact_prompts(VISIT)[0].text


def test_every_labelled_event_has_descriptions_that_cover_all_its_detections() -> None:
    for labelled in read_events():
        evidence = evidence_of(evidence_message(labelled.item, "all"))
        for prompt in fact_prompts(evidence):
            told = {found.id for line in prompt.lines for found in line.detections}
            assert told == {found.id for found in evidence.detections}
            assert len(prompt.text) < 12_000


def test_shorter_descriptions_follow_for_small_contexts() -> None:
    crowd = [seen(0, 0.6, x=number / 50, width=0.01) for number in range(40)]
    prompts = fact_prompts(replace(event(crowd), site_notes=("a note",) * 16))
    assert [len(prompt.lines) for prompt in prompts] == [24, 8, 3, 1]
    lengths = [len(prompt.text) for prompt in prompts]
    assert lengths == sorted(lengths, reverse=True)


def hostile(text: str) -> list[str]:
    """Descriptions of an event in which everything that people write is `text`."""
    person = HousePerson("p", text, Relation.FRIEND)
    told = replace(
        event(stay(0.8), person=person),
        camera_name=text,
        mode=text,
        people=(person,),
        expected=(ExpectedVisit("v", text),),
        site_notes=(text,),
        zones=tuple(replace(zone, name=text) for zone in VISIT.zones),
    )
    return [prompt.text for prompt in fact_prompts(told)]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_within_its_block(text: str) -> None:
    assert_harmless(text)


@given(some.text())
def test_any_text_stays_within_its_block(text: str) -> None:
    assert_harmless(text)


def assert_harmless(text: str) -> None:
    for described in hostile(text):
        lines = described.split("\n")
        markers = [line for line in lines if "=" in line]
        assert markers == [DATA_BEGIN, DATA_END, NAMES_BEGIN, NAMES_END]
        written = lines[lines.index(NAMES_BEGIN) + 1 : lines.index(NAMES_END)]
        for line in written:
            name, _, value = line.partition(":")
            assert name.split()[0] in ("camera", "mode", "place", "person", "expected", "note")
            assert not CONTROL.search(value)
        facts = described[: described.index(NAMES_BEGIN)]
        calm = hostile("calm")[0]
        assert facts == calm[: calm.index(NAMES_BEGIN)] or text in ("", "home", "away", "night")


def test_the_time_between_events_changes_nothing_else() -> None:
    later = replace(VISIT, history=(VISIT.detections[0].captured_at - timedelta(minutes=5),))
    assert "before: 1 event of this camera in the hour before\n" in fact_prompts(later)[0].text
