"""Descriptions of events by facts: always the same, with every detection, and without instructions."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.places import SceneZone, ZoneKind
from reason_svc.evidence import (
    ChangeKind,
    EvidenceDetection,
    ExpectedVisit,
    HousePerson,
    PastEvent,
    Relation,
    SceneChange,
)
from reason_svc.language_models.fact_prompt import NAMES_BEGIN, NAMES_END, fact_prompts
from reason_svc.language_models.prompt_sanitizer import DATA_BEGIN, DATA_END
from reason_svc.messages import evidence_of
from tests.judge.context import evidence_message
from tests.judge.labelled import read_events
from tests.unit.reason_svc.language_models.test_event_prompt import CONTROL, HOSTILE
from tests.unit.reason_svc.rules.test_v2 import GARDEN, POOL, RESIDENT, band, event, seen, stay

VISIT = event([seen(2 * step, 0.35, x=0.1 + 0.2 * step) for step in range(4)])


def test_a_description_is_always_the_same() -> None:
    named = event([*stay(0.8, 80), seen(0, 0.35, "car")], mode="away", dark=True, person=RESIDENT)
    prompt = fact_prompts(named)[0]
    person = (
        "1. person, clearly seen in 17 photos; was at a door (place C) for 1 min 20 s;"
        " is nobody whom the house knows"
    )
    car = "2. car, seen in 1 photo; was on public ground (place A)"
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
        "place A: street",
        "place C: door",
        "=== END OF NAMES AND NOTES ===",
    ]
    assert [line.label for line in prompt.lines] == ["person", "car"]
    assert set(prompt.detection_ids([1])) <= {
        found.id for found in named.detections if found.label == "person"
    }


def test_somebody_who_walks_past_is_said_to_pass() -> None:
    assert "passed by on public ground (place A) in 6 s" in fact_prompts(VISIT)[0].text


def test_only_what_the_facts_name_has_a_name() -> None:
    """A model takes the name of another place for one where something happened."""
    text = fact_prompts(event(stay(0.8), person=RESIDENT))[0].text
    assert re.findall(r"(?:place|person) [A-Z]: (\w+)", text) == ["door", "Anna"]


def test_certainty_is_told_in_words() -> None:
    """A model takes `80% certain` for doubt, or for the score."""
    assert "person, faintly seen in 2 photos; " in told([faint(0), faint(2)])
    assert "person, seen in 3 photos; " in told([faint(0), faint(2), faint(4)])
    assert "person, clearly seen in 4 photos; " in told(VISIT.detections)


def test_what_no_model_can_see_is_told() -> None:
    assert "; close to the camera" in told([seen(0, 0.8, height=0.6)])
    assert "; close to the camera" not in told([seen(0, 0.8, height=0.4)])
    alone, with_somebody = [seen(0, 0.9)], [seen(0, 0.9, x=0.2), seen(0, 0.9, height=0.5)]
    assert "; small, and nobody taller is there" in told(alone, (POOL,))
    assert "; small, and nobody taller is there" not in told(with_somebody, (POOL,))
    assert "; beside a person" in told([seen(0, 0.6, "bear", x=0.4), seen(0, 0.6)])
    assert "; beside a person" not in told([seen(0, 0.6, "bear", x=0.1), seen(0, 0.6, height=0.1, x=0.9)])


def test_lines_are_crossed_in_order() -> None:
    there_and_back = [seen(second, foot) for second, foot in ((0, 0.35), (1, 0.5), (2, 0.35))]
    assert "; crossed a line inwards, then outwards; " in told(there_and_back)


def test_a_public_zone_that_cannot_be_right_is_no_public_ground() -> None:
    everything = (band("all", ZoneKind.PUBLIC, 0.0, 1.0),)
    text = told(VISIT.detections, everything)
    assert "was somewhere (what is drawn there cannot be right)" in text
    assert "public ground" not in text


def faint(second: float) -> EvidenceDetection:
    return seen(second, 0.6, score=0.45)


def told(found: Sequence[EvidenceDetection], zones: Sequence[SceneZone] = GARDEN) -> str:
    return fact_prompts(event(found, zones))[0].text


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


@given(some.text())
@pytest.mark.parametrize("known", HOSTILE)
def test_what_a_thing_is_called_neither_ends_a_block_nor_begins_a_line(known: str, text: str) -> None:
    for label in (known, text):
        lines = described_things(label).split("\n")
        assert [line for line in lines if "=" in line] == [DATA_BEGIN, DATA_END, NAMES_BEGIN, NAMES_END]
        assert len(lines) == len(described_things("calm").split("\n"))
        assert not {*"<>|[]{}`/"} & {*"".join(lines)}


def described_things(label: str) -> str:
    """The description of an event in which a thing, what went, and what was seen before are all called so."""
    (found,) = VISIT.detections[:1]
    told = event([replace(found, label=label)])
    change = SceneChange(label, ChangeKind.WENT, found.captured_at)
    past = PastEvent(found.captured_at, found.captured_at, (label,))
    return fact_prompts(replace(told, changes=(change,), past=(past,)))[0].text


def test_the_time_between_events_changes_nothing_else() -> None:
    later = replace(VISIT, history=(VISIT.detections[0].captured_at - timedelta(minutes=5),))
    assert "before: 1 event of this camera in the hour before\n" in fact_prompts(later)[0].text
