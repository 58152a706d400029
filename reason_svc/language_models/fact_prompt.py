"""Describes an event to a language model by facts that were computed: what each thing did, where and for how
long, not where its boxes were. The descriptions of the prompts v2.

What people wrote (names, notes) stands in a block of its own, sanitized; the facts name places and people by
letters. The wording is part of the released prompts: it does not change.
"""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import TypeVar

from mesh.scene.daylight import Light
from mesh.scene.doubts import TALL
from mesh.scene.places import ZoneKind
from mesh.scene.tracks import Direction, ZoneVisit
from reason_svc.evidence import ChangeKind, Evidence, Relation
from reason_svc.language_models.event_prompt import EventPrompt, PromptLine
from reason_svc.language_models.prompt_sanitizer import between_markers, sanitize
from reason_svc.rules.v2.floors import is_beside, seconds_alone_in_water
from reason_svc.rules.v2.subject import EventScene, Subject, read_event
from reason_svc.rules.v2.texts import PLACES, seconds_text

NAMES_BEGIN, NAMES_END = "=== NAMES AND NOTES ===", "=== END OF NAMES AND NOTES ==="
MAX_LABEL_LENGTH, MAX_NAME_LENGTH, MAX_VISITS, MAX_CHANGES = 40, 64, 6, 8
# The most things with a line of their own, notes, and characters of a note: from the most detailed
# description to the shortest.
DETAILS = ((24, 16, 500), (8, 8, 200), (3, 2, 120), (1, 0, 0))

MODES = {
    "home": "the people of the house are at home",
    "away": "nobody is at home",
    "night": "the people of the house are at home and asleep",
    "": "nobody has said who is at home",
}
LIGHTS = {Light.DARK: ", dark", Light.DAYLIGHT: ", daylight"}
OWN_MODE = "a mode of its own is set, whose name is below"
RELATIONS = {
    Relation.RESIDENT: "a resident",
    Relation.FAMILY: "family",
    Relation.FRIEND: "a friend",
    Relation.NEIGHBOUR: "a neighbour",
    Relation.STAFF: "staff",
    Relation.UNWELCOME: "somebody who must not come",
}
DOUBTED = "somewhere (what is drawn there cannot be right)"
DIRECTIONS = {Direction.INWARDS: "inwards", Direction.OUTWARDS: "outwards"}
CLEAR_SCORE = 0.6

T = TypeVar("T")


def fact_prompts(evidence: Evidence) -> list[EventPrompt]:
    """Returns descriptions of the event, from the most detailed to the shortest. A line describes one thing;
    the last one, all things that have no line of their own."""
    scene = read_event(evidence)
    subjects = sorted(
        scene.subjects, key=lambda one: (not one.is_person, -one.duration, one.started_at, one.track.id)
    )
    return [
        _prompt(scene, subjects, *detail)
        for number, detail in enumerate(DETAILS)
        if number == 0 or detail[0] < len(subjects) or evidence.site_notes
    ]


def _prompt(
    scene: EventScene, subjects: Sequence[Subject], most: int, notes: int, note_length: int
) -> EventPrompt:
    shown = subjects if len(subjects) <= most else subjects[: most - 1]
    others = subjects[len(shown) :]
    lines = [PromptLine(one.label, tuple(one.detections)) for one in shown]
    facts = [_fact(one, scene) for one in shown]
    if others:
        lines.append(PromptLine("other things", tuple(found for one in others for found in one.detections)))
        facts.append(f"{len(others)} other things, seen for shorter")
    text = between_markers([
        *_circumstances(scene), *(f"{number}. {fact}" for number, fact in enumerate(facts, 1))
    ])  # fmt: skip
    names = [NAMES_BEGIN, *_names(scene.evidence, shown, notes, note_length), NAMES_END]
    return EventPrompt("\n".join((text, "", *names)), tuple(lines))


def _circumstances(scene: EventScene) -> list[str]:
    evidence = scene.evidence
    began = min(found.captured_at for found in evidence.detections).astimezone(evidence.time_zone)
    light = LIGHTS[evidence.light] if evidence.light else ""
    lines = [
        f"time: {began:%A %H:%M} local time{light}",
        f"house: {MODES.get(evidence.mode, OWN_MODE)}",
        f"before: {_before(scene)}",
        f"most people in one photo: {_most_people(scene)}",
    ]
    if evidence.present:
        lines.append("arrived: somebody of the house was reported to be there")
    if evidence.expected:
        lines.append("expected: a visit at this time, whose name is below")
    lines += [
        f"changed: {sanitize(change.thing, MAX_LABEL_LENGTH) or 'a thing'}"
        f" {'came' if change.kind is ChangeKind.CAME else 'is gone'}"
        for change in evidence.changes[:MAX_CHANGES]
    ]
    return lines


def _before(scene: EventScene) -> str:
    evidence = scene.evidence
    count = max(len(evidence.past), len(evidence.history))
    if not count:
        return "nothing in the hour before"
    labels = sorted({label for past in evidence.past for label in past.labels})[:MAX_CHANGES]
    of = f", with {', '.join(sanitize(label, MAX_LABEL_LENGTH) for label in labels)}" if labels else ""
    return f"{count} event{'s' if count > 1 else ''} of this camera in the hour before{of}"


def _most_people(scene: EventScene) -> int:
    frames = [frame for person in scene.people for frame in person.frames]
    return max(map(frames.count, {*frames}), default=0)


def _fact(subject: Subject, scene: EventScene) -> str:
    parts = [_seen(subject), _behaviour(subject, scene.evidence)]
    if crossings := subject.track.scene.crossings[:MAX_VISITS]:
        parts.append(f"crossed a line {', then '.join(DIRECTIONS[one.direction] for one in crossings)}")
    if subject.track.scene.stationary:
        parts.append("did not move")
    if subject.lying() or subject.seems_to_lie:
        parts.append("lies on the ground")
    if subject.is_person:
        parts += _about_person(subject, scene)
    elif not subject.is_vehicle and any(is_beside(subject, person) for person in scene.people):
        parts.append("beside a person")
    habits = [one for one in scene.evidence.habits if one.label == subject.label]
    if habits:
        parts.append(f"such things were here at this hour on {habits[0].days_seen} of {habits[0].days} days")
    return "; ".join(parts)


def _seen(subject: Subject) -> str:
    """How certain it is, in words: a small model takes `80% certain` for doubt, or for the score."""
    label, photos = sanitize(subject.label, MAX_LABEL_LENGTH) or "something", len(subject.frames)
    how = "seen"
    if subject.is_faint:
        how = "faintly seen"
    elif subject.best_score >= CLEAR_SCORE and photos > 1:
        how = "clearly seen"
    return f"{label}, {how} in {photos} photo{'s' if photos > 1 else ''}"


def _behaviour(subject: Subject, evidence: Evidence) -> str:
    """A text like `passed by on public ground (place A) in 11 s`."""
    visits = subject.track.scene.visits[:MAX_VISITS]
    letters = {zone.id: f" (place {letter})" for letter, zone in _lettered(evidence.zones)}
    if not visits:
        return f"was seen for {seconds_text(subject.duration)}, nobody has said what this place is"
    places = [_place(visit, subject, letters) for visit in visits]
    if subject.in_public_only and not subject.in_doubted_zone and subject.passes:
        return f"passed by {places[0]} in {seconds_text(subject.duration)}"
    return "was " + ", then ".join(
        f"{place} for {seconds_text(visit.seconds)}" if visit.seconds >= 1 else place
        for place, visit in zip(places, visits, strict=True)
    )


def _place(visit: ZoneVisit, subject: Subject, letters: Mapping[str, str]) -> str:
    if visit.place.kind is ZoneKind.PUBLIC and subject.in_doubted_zone:
        return DOUBTED
    return f"{PLACES[visit.place.kind]}{letters.get(visit.place.zone_id, '')}"


def _about_person(subject: Subject, scene: EventScene) -> list[str]:
    parts = [_identity(subject, scene.evidence)]
    if subject.height > TALL:
        parts.append("close to the camera")
    if seconds_alone_in_water(subject, scene) is not None:
        parts.append("small, and nobody taller is there")
    return parts


def _identity(subject: Subject, evidence: Evidence) -> str:
    person = subject.track.person
    if person is None:
        unknown = "is nobody whom the house knows"
        return unknown if subject.track.looked_at else "nobody has said who this is"
    letter = {one.id: f" (person {letter})" for letter, one in _lettered(evidence.people)}.get(person.id, "")
    relation = RELATIONS[person.relation] if person.relation else "somebody known"
    return f"somebody has said that this is {relation}{letter}"


def _lettered(things: Sequence[T]) -> Iterator[tuple[str, T]]:
    """The things with letters: A to Z, then AA, BB and so on. A number would be taken for that of a line."""
    for number, thing in enumerate(things):
        rounds, letter = divmod(number, len(ascii_uppercase))
        yield ascii_uppercase[letter] * (rounds + 1), thing


def _names(evidence: Evidence, shown: Sequence[Subject], notes: int, note_length: int) -> list[str]:
    """The names of the places and people that the facts name by their letters. A model takes the name of any
    other place for one where something happened."""
    visited = {visit.place.zone_id for one in shown for visit in one.track.scene.visits[:MAX_VISITS]}
    named = {one.track.person.id for one in shown if one.is_person and one.track.person}
    lines = [f"camera: {sanitize(evidence.camera_name, MAX_NAME_LENGTH) or 'unnamed'}"]
    if evidence.mode not in MODES:
        lines.append(f"mode: {sanitize(evidence.mode, MAX_NAME_LENGTH) or 'unnamed'}")
    lines += [
        f"place {letter}: {sanitize(zone.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for letter, zone in _lettered(evidence.zones)
        if zone.id in visited
    ]
    lines += [
        f"person {letter}: {sanitize(person.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for letter, person in _lettered(evidence.people)
        if person.id in named
    ]
    lines += [
        f"expected visit: {sanitize(visit.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for visit in evidence.expected[:MAX_CHANGES]
    ]
    return lines + [f"note: {sanitize(note, note_length)}" for note in evidence.site_notes[:notes]]
