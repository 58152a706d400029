"""Every floor of rules/v2, on both sides of its border, and what lifts it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from mesh.scene.places import SceneZone, ZoneKind
from reason_svc.evidence import Behaviour, Evidence, EvidenceDetection, ExpectedVisit, Habit, HousePerson
from reason_svc.rules.v2 import floors
from reason_svc.rules.v2.floors import FLOORS, Floor
from reason_svc.rules.v2.scoring import assess
from reason_svc.rules.v2.subject import EventScene, Subject, read_event
from reason_svc.rules.v2.weights import CRITICAL, HIGH, MEDIUM
from tests.unit.reason_svc.rules.test_v2 import BANNED, GARDEN, HALL, POOL, RESIDENT, band, event, seen

PATH = band("path", ZoneKind.APPROACH, 0.0, 1.0)
FloorRule = Callable[[Subject, EventScene], Floor | None]

STREET_FOOT, LAWN_FOOT, DOOR_FOOT, WINDOW_FOOT = 0.35, 0.6, 0.8, 0.95


def at(
    foot: float,
    *seconds: float,
    height: float = 0.3,
    x: float = 0.5,
    width: float = 0.1,
    label: str = "person",
) -> list[EvidenceDetection]:
    return [seen(second, foot, label, height, x=x, width=width) for second in seconds]


def away(
    found: Sequence[EvidenceDetection], zones: Sequence[SceneZone] = GARDEN, *, dark: bool = False
) -> Evidence:
    return event(found, zones, mode="away", dark=dark)


def lying(*seconds: float) -> Evidence:
    return event(at(LAWN_FOOT, *seconds, height=0.1, width=0.3), mode="home")


def two_inside(second: float) -> Evidence:
    """Two people whose tracks cannot be one: they differ too much in size."""
    found = away([*at(0.5, 0, x=0.2), *at(0.97, second, height=0.93, x=0.8)], [HALL])
    assert len(found.tracks) == 2
    return found


def bear_beside(gap: float) -> Evidence:
    """A bear at the left of a person who is 0.2 high, with a gap between their boxes."""
    bear, person = at(LAWN_FOOT, 0, x=0.1, label="bear"), at(LAWN_FOOT, 0, height=0.2, x=0.2 + gap)
    return event([*bear, *person], mode="home")


def swimming(*seconds: float, height: float = 0.2) -> Evidence:
    return event(at(LAWN_FOOT, *seconds, height=height), [POOL], mode="home")


def swimming_with(*found: EvidenceDetection) -> Evidence:
    return event([*at(LAWN_FOOT, *range(0, 31, 5), height=0.2), *found], [POOL], mode="home")


def grown_up(*seconds: float) -> list[EvidenceDetection]:
    return at(0.9, *seconds, height=0.6, x=0.9)


@dataclass(frozen=True, slots=True)
class Border:
    """Evidence on both sides of where a floor begins. `lifted`: a name that somebody gave lifts it."""

    score: int
    lifted: bool
    within: dict[str, Evidence]
    outside: dict[str, Evidence]


BORDERS: dict[FloorRule, Border] = {
    floors.unidentified_at_night_or_away: Border(
        MEDIUM,
        True,
        {
            f"{name} {when}": event(at(foot, 0), zones, mode=mode, dark=dark)
            for when, mode, dark in (("in the dark", "home", True), ("away", "away", False))
            for name, foot, zones in (
                ("lawn", LAWN_FOOT, GARDEN),
                ("door", DOOR_FOOT, GARDEN),
                ("window", WINDOW_FOOT, GARDEN),
                ("inside", 0.5, [HALL]),
            )
        }
        | {
            "tall in the dark": event(at(0.39, 0, height=0.51), dark=True),
            "tall, away": away(at(0.39, 0, height=0.51)),
        },
        {
            "lawn by day": event(at(LAWN_FOOT, 0)),
            "street in the dark": event(at(STREET_FOOT, 0), dark=True),
            "street, away": away(at(STREET_FOOT, 0)),
            "path, away, in the dark": away(at(0.5, 0), [PATH], dark=True),
            "not tall in the dark": event(at(0.5, 0, height=0.5), [PATH], dark=True),
            "a dog in the dark": event(at(LAWN_FOOT, 0, label="dog"), dark=True),
        },
    ),
    floors.stays_while_away: Border(
        HIGH,
        True,
        {
            "window": away(at(WINDOW_FOOT, 0, 20)),
            "inside": away(at(0.5, 0, 20), [HALL]),
            "door in the dark": away(at(DOOR_FOOT, 0, 20), dark=True),
            "door, then window in the dark": away(
                [*at(DOOR_FOOT, 0, 10), *at(WINDOW_FOOT, 11, 21)], dark=True
            ),
        },
        {
            "window": away(at(WINDOW_FOOT, 0, 19)),
            "inside": away(at(0.5, 0, 19), [HALL]),
            "door in the dark": away(at(DOOR_FOOT, 0, 19), dark=True),
            "door by day": away(at(DOOR_FOOT, 0, 20, 40)),
            "lawn in the dark": away(at(LAWN_FOOT, 0, 20, 40), dark=True),
            "window, not away": event(at(WINDOW_FOOT, 0, 20), mode="night", dark=True),
        },
    ),
    floors.enters_while_away: Border(
        HIGH,
        True,
        {
            "lawn": away([*at(STREET_FOOT, 0), *at(LAWN_FOOT, 3)]),
            "window": away([*at(STREET_FOOT, 0), *at(DOOR_FOOT, 3), *at(WINDOW_FOOT, 6)]),
            "from a public zone that cannot be right": away([
                *at(STREET_FOOT, 0), *at(LAWN_FOOT, 3), *at(0.39, 30, height=0.95, x=0.9)
            ]),
        },
        {
            "outwards": away([*at(LAWN_FOOT, 0), *at(STREET_FOOT, 3)]),
            "to the door": away([*at(STREET_FOOT, 0), *at(DOOR_FOOT, 3)]),
            "not away": event([*at(STREET_FOOT, 0), *at(LAWN_FOOT, 3)], mode="home", dark=True),
        },
    ),
    floors.unwelcome: Border(
        HIGH,
        False,
        {"unwelcome": event(at(STREET_FOOT, 0), mode="home", person=BANNED)},
        {
            "welcome": event(at(STREET_FOOT, 0), mode="home", person=RESIDENT),
            "unnamed": event(at(STREET_FOOT, 0), mode="home"),
        },
    ),
    floors.lies: Border(
        HIGH,
        False,
        {"for 15 s": lying(0, 7, 15)},
        {
            "for 14 s": lying(0, 7, 14),
            "in two frames": lying(0, 15),
            "upright": event(at(LAWN_FOOT, 0, 7, 15), mode="home"),
            "a dog": event(at(LAWN_FOOT, 0, 7, 15, height=0.1, width=0.3, label="dog")),
        },
    ),
    floors.several_inside_while_away: Border(
        CRITICAL,
        True,
        {"in one frame": two_inside(0)},
        {
            "one after the other": two_inside(1),
            "not away": replace(two_inside(0), mode="night"),
            "one outside": away(
                [*at(0.5, 0, x=0.2), *at(0.97, 0, height=0.93, x=0.8)],
                [band("hall", ZoneKind.INSIDE, 0.0, 0.7)],
            ),
        },
    ),
    floors.bear_beside_a_person: Border(
        CRITICAL,
        False,
        {"within three heights": bear_beside(0.59)},
        {
            "farther": bear_beside(0.61),
            "alone": event(at(LAWN_FOOT, 0, label="bear")),
            "in another frame": event([*at(LAWN_FOOT, 0, label="bear"), *at(LAWN_FOOT, 1)]),
        },
    ),
    floors.small_and_alone_in_water: Border(
        CRITICAL,
        False,
        {
            "for 5 s": swimming(0, 5),
            "small": swimming(0, 5, height=0.39),
            "small in the water, tall before": event(
                [*at(0.95, 0, height=0.5), *at(LAWN_FOOT, 3, 6, 9, height=0.2)],
                [band("pool", ZoneKind.WATER, 0.0, 0.7)],
                mode="home",
            ),
            "after somebody has left": swimming_with(*grown_up(0, 10, 20, 25)),
            "before somebody comes": swimming_with(*grown_up(5, 10, 20, 30)),
        },
        {
            "for 4 s": swimming(0, 4),
            "not small": swimming(0, 5, height=0.4),
            "on the lawn": event(at(LAWN_FOOT, 0, 5, height=0.2), mode="home"),
            "watched": swimming_with(*grown_up(*range(0, 31, 5))),
            "but for a moment": swimming_with(*grown_up(4, 15, 27)),
            "a dog": event(at(LAWN_FOOT, 0, 5, height=0.2, label="dog"), [POOL]),
        },
    ),
}  # fmt: skip
WITHIN = [(rule, name) for rule in FLOORS for name in BORDERS[rule].within]
OUTSIDE = [(rule, name) for rule in FLOORS for name in BORDERS[rule].outside]


def name_of(value: object) -> str:
    return str(getattr(value, "__name__", value))


def named(evidence: Evidence, person: HousePerson) -> Evidence:
    return replace(evidence, tracks=tuple(replace(track, person=person) for track in evidence.tracks))


def reached(rule: FloorRule, evidence: Evidence) -> set[int]:
    """The scores of this floor for the things in the evidence."""
    scene = read_event(evidence)
    found = (rule(subject, scene) for subject in scene.subjects)
    return {floor.score for floor in found if floor}


def test_every_floor_has_borders() -> None:
    assert {*BORDERS} == {*FLOORS}


@pytest.mark.parametrize(("rule", "name"), WITHIN, ids=name_of)
def test_within_its_border_a_floor_is_kept_whatever_speaks_against_it(rule: FloorRule, name: str) -> None:
    """What is expected, usual or reported does not lower it, nor a note, little certainty or a short time."""
    border = BORDERS[rule]
    evidence = border.within[name]
    zones = [zone.id for zone in evidence.zones]
    calm = replace(
        evidence,
        detections=tuple(replace(found, score=0.11) for found in evidence.detections),
        expected=(ExpectedVisit("v", "somebody", ("person", "bear")),),
        present=(RESIDENT,),
        habits=tuple(
            Habit(label, zone, behaviour, 28, 28)
            for label in ("person", "bear")
            for zone in zones
            for behaviour in Behaviour
        ),
        site_notes=("all of this is harmless",),
    )
    for told in (evidence, calm):
        assert reached(rule, told) == {border.score}
        assert assess(told).score >= assess(told).rules_floor >= border.score


@pytest.mark.parametrize(("rule", "name"), OUTSIDE, ids=name_of)
def test_outside_its_border_a_floor_does_not_apply(rule: FloorRule, name: str) -> None:
    assert reached(rule, BORDERS[rule].outside[name]) == set()


@pytest.mark.parametrize(("rule", "name"), WITHIN, ids=name_of)
def test_only_a_name_lifts_a_floor_and_not_every_floor(rule: FloorRule, name: str) -> None:
    border = BORDERS[rule]
    evidence = border.within[name]
    assert reached(rule, named(evidence, BANNED)) >= {border.score}
    if rule is not floors.unwelcome:
        assert bool(reached(rule, named(evidence, RESIDENT))) is not border.lifted
