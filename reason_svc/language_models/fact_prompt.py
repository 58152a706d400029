"""Describes an event to a language model by facts that were computed: what each thing did, where and for how
long, not where its boxes were. The descriptions of the prompts v2.

What people wrote (names, notes) stands in a block of its own, sanitized; the facts name places and people by
numbers. The wording is part of the released prompts: it does not change.
"""

from collections.abc import Sequence

from mesh.scene.daylight import Light
from mesh.scene.tracks import Direction
from reason_svc.evidence import ChangeKind, Evidence, Relation
from reason_svc.language_models.event_prompt import EventPrompt, PromptLine
from reason_svc.language_models.prompt_sanitizer import between_markers, sanitize
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
PHRASES = {Direction.INWARDS: "crossed a line inwards", Direction.OUTWARDS: "crossed a line outwards"}


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
    facts = [_fact(one, scene.evidence) for one in shown]
    if others:
        lines.append(PromptLine("other things", tuple(found for one in others for found in one.detections)))
        facts.append(f"{len(others)} other things, seen for shorter")
    text = between_markers([
        *_circumstances(scene), *(f"{number}. {fact}" for number, fact in enumerate(facts, 1))
    ])  # fmt: skip
    names = [NAMES_BEGIN, *_names(scene.evidence, notes, note_length), NAMES_END]
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


def _fact(subject: Subject, evidence: Evidence) -> str:
    label = sanitize(subject.label, MAX_LABEL_LENGTH) or "something"
    photos = len(subject.frames)
    parts = [f"{label} in {photos} photo{'s' if photos > 1 else ''}", _behaviour(subject, evidence)]
    parts += [PHRASES[crossing.direction] for crossing in subject.track.scene.crossings[:MAX_VISITS]]
    if subject.track.scene.stationary:
        parts.append("did not move")
    if subject.lying() or subject.seems_to_lie:
        parts.append("lies on the ground")
    if subject.is_person:
        parts.append(_identity(subject, evidence))
        parts.append(f"at most {subject.height:.0%} of the picture's height")
    habits = [one for one in evidence.habits if one.label == subject.label]
    if habits:
        parts.append(f"such things were here at this hour on {habits[0].days_seen} of {habits[0].days} days")
    parts.append(f"the detector is at most {subject.best_score:.0%} certain")
    return "; ".join(parts)


def _behaviour(subject: Subject, evidence: Evidence) -> str:
    """A text like `passed by on public ground (place 1) in 11 s`."""
    visits = subject.track.scene.visits[:MAX_VISITS]
    numbers = {zone.id: f" (place {number})" for number, zone in enumerate(evidence.zones, 1)}
    if not visits:
        return f"was seen for {seconds_text(subject.duration)}, nobody has said what this place is"
    first = visits[0].place
    if subject.in_public_only and subject.passes:
        where = f"{PLACES[first.kind]}{numbers.get(first.zone_id, '')}"
        return f"passed by {where} in {seconds_text(subject.duration)}"
    return ", then ".join(
        f"was {PLACES[visit.place.kind]}{numbers.get(visit.place.zone_id, '')}"
        f" {f'for {seconds_text(visit.seconds)}' if visit.seconds >= 1 else 'for a moment'}"
        for visit in visits
    )


def _identity(subject: Subject, evidence: Evidence) -> str:
    person = subject.track.person
    if person is None:
        return "looked at and not known" if subject.track.looked_at else "nobody has said who this is"
    known = [one.id for one in evidence.people]
    number = f" (person {known.index(person.id) + 1})" if person.id in known else ""
    relation = RELATIONS[person.relation] if person.relation else "somebody known"
    return f"somebody has said that this is {relation}{number}"


def _names(evidence: Evidence, notes: int, note_length: int) -> list[str]:
    named = {one.person.id for one in evidence.tracks if one.person}
    lines = [f"camera: {sanitize(evidence.camera_name, MAX_NAME_LENGTH) or 'unnamed'}"]
    if evidence.mode not in MODES:
        lines.append(f"mode: {sanitize(evidence.mode, MAX_NAME_LENGTH) or 'unnamed'}")
    lines += [
        f"place {number}: {sanitize(zone.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for number, zone in enumerate(evidence.zones, 1)
    ]
    lines += [
        f"person {number}: {sanitize(person.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for number, person in enumerate(evidence.people, 1)
        if person.id in named
    ]
    lines += [
        f"expected visit: {sanitize(visit.name, MAX_NAME_LENGTH) or 'unnamed'}"
        for visit in evidence.expected[:MAX_CHANGES]
    ]
    return lines + [f"note: {sanitize(note, note_length)}" for note in evidence.site_notes[:notes]]
