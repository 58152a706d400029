"""What makes an event worse never lowers the score of rules/v2, and nothing hides anything else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given

from mesh.scene.daylight import Light
from mesh.scene.places import Place, ZoneKind
from reason_svc.evidence import (
    Behaviour,
    ChangeKind,
    Evidence,
    EvidenceDetection,
    ExpectedVisit,
    Habit,
    PastEvent,
    SceneChange,
)
from reason_svc.rules.v2 import additions, reliefs, scoring, weights
from reason_svc.rules.v2.additions import ADDITIONS, Rule
from reason_svc.rules.v2.reliefs import RELIEFS
from reason_svc.rules.v2.scoring import assess
from reason_svc.rules.v2.subject import read_event
from tests.unit.reason_svc.rules.test_v2 import (
    BANNED,
    EVERYWHERE,
    POOL,
    RESIDENT,
    START,
    STREET,
    event,
    events,
    found_lists,
    seen,
    stay,
)


def together(one: Evidence, other: Evidence) -> Evidence:
    """One event with the detections of both, in the circumstances of the first."""
    before = len(one.detections)
    tracks = [
        replace(
            track,
            id=f"other-{track.id}",
            scene=replace(track.scene, indexes=tuple(before + index for index in track.scene.indexes)),
        )
        for track in other.tracks
    ]
    found = [replace(each, id=f"other-{each.id}") for each in other.detections]
    return replace(one, detections=(*one.detections, *found), tracks=(*one.tracks, *tracks))


def somebody_watches_the_water(evidence: Evidence) -> bool:
    people = read_event(evidence).people
    return len(people) > 1 and any(person.was_in(ZoneKind.WATER) for person in people)


@given(events, found_lists)
def test_nothing_that_is_seen_hides_anything_else(
    evidence: Evidence, found: Sequence[EvidenceDetection]
) -> None:
    """But somebody known, who may have come with the vehicle, own the dog, or have driven the car away, and
    somebody who is with a child in the water: docs/risk.md says so."""
    first = replace(evidence, tracks=tuple(replace(track, person=None) for track in evidence.tracks))
    alone = event(found, first.zones, ground=first.ground)
    second = replace(first, detections=alone.detections, tracks=alone.tracks)
    both = together(first, second)
    if not somebody_watches_the_water(both):
        assert assess(both).score >= max(assess(first).score, assess(second).score)


@given(events)
def test_the_dark_is_never_better_than_the_day(evidence: Evidence) -> None:
    dark, day = (assess(replace(evidence, light=light)).score for light in (Light.DARK, Light.DAYLIGHT))
    assert dark >= day


@given(events)
def test_an_empty_house_is_never_better_than_a_full_one(evidence: Evidence) -> None:
    away, unset, home = (assess(replace(evidence, mode=mode)).score for mode in ("away", "", "home"))
    assert away >= unset >= home


@given(events)
def test_nothing_that_was_expected_makes_it_worse(evidence: Evidence) -> None:
    told = assess(evidence).score
    for unexpected in (
        replace(evidence, habits=()),
        replace(evidence, expected=()),
        replace(evidence, present=()),
        replace(evidence, habits=(), expected=(), present=()),
    ):
        assert assess(unexpected).score >= told


@given(events)
def test_nobody_known_is_worse_than_somebody_unknown_and_nobody_worse_than_the_unwelcome(
    evidence: Evidence,
) -> None:
    people = (evidence.people[0], None, evidence.people[1])
    known, unknown, unwelcome = (
        assess(
            replace(evidence, tracks=tuple(replace(track, person=person) for track in evidence.tracks))
        ).score
        for person in people
    )
    assert known <= unknown <= unwelcome


def at_two(evidence: Evidence) -> Evidence:
    """The same, in the dark at two o'clock."""
    earlier = START - START.replace(hour=2)
    return replace(
        evidence,
        detections=tuple(
            replace(found, captured_at=found.captured_at - earlier) for found in evidence.detections
        ),
        light=Light.DARK,
    )


def seen_before(evidence: Evidence, label: str, times: int) -> Evidence:
    past = PastEvent(START - timedelta(minutes=30), START - timedelta(minutes=29), (label,))
    return replace(evidence, past=(past,) * times)


def changed(evidence: Evidence, thing: str, kind: ChangeKind = ChangeKind.WENT) -> Evidence:
    return replace(evidence, changes=(SceneChange(thing, kind, START, Place("lawn", ZoneKind.PRIVATE)),))


def standing(foot: float, seconds: int = 20) -> Evidence:
    """A car that stood there before."""
    return event([replace(found, stands=True) for found in stay(foot, seconds, "car")])


DRIVES_IN = [seen(3 * step, 0.3 + 0.1 * step, "car", x=0.2) for step in range(4)]
LIES = [seen(second, 0.6, height=0.1, width=0.3) for second in (0, 8, 16)]

# For each rule an event that only this rule makes less, or more, than it would be.
RELIEVED: dict[Rule, Evidence] = {
    reliefs.known: event(stay(0.6, 20), person=RESIDENT),
    reliefs.public_ground: event(stay(0.35, 10)),
    reliefs.passing: event([seen(0, 0.5), seen(2, 0.5)], []),
    reliefs.brief_by_day: event(stay(0.8, 20)),
    reliefs.at_home: event(stay(0.6, 20), mode="home"),
    reliefs.came_out: event([seen(0, 0.8), *(seen(second, 0.6) for second in range(3, 60, 3))], mode="night"),
    reliefs.faint: event([seen(0, 0.6, "dog", score=0.5)]),
    reliefs.stands_there: standing(0.6),
    reliefs.habit: replace(event(stay(0.6)), habits=(Habit("person", "lawn", Behaviour.STAYING, 8, 28),)),
    reliefs.expected: replace(event(stay(0.6)), expected=(ExpectedVisit("v", "a visit"),)),
    reliefs.present: replace(event(stay(0.8, 80)), present=(RESIDENT,)),
}
WORSENED: dict[Rule, Evidence] = {
    additions.seen: event([seen(0, 0.6)]),
    additions.stays: event(stay(0.6)),
    additions.at_window_or_inside: event(stay(0.95, 5)),
    additions.inwards: event([seen(0, 0.35), seen(3, 0.5)]),
    additions.while_away: event(stay(0.6), mode="away"),
    additions.dark: event(stay(0.6), dark=True),
    additions.doubtful_place: event(stay(0.95, 30), [EVERYWHERE]),
    additions.close: event([seen(0, 0.99, height=0.9)], [], dark=True),
    additions.lingers: at_two(event(stay(0.35, 40))),
    additions.returns: seen_before(event(stay(0.6), dark=True), "person", 1),
    additions.several: event([*stay(0.6, x=0.2), *stay(0.6, x=0.8)], dark=True),
    additions.came_by_vehicle: event([*stay(0.6, x=0.8), *DRIVES_IN], dark=True),
    additions.unwelcome: event(stay(0.6), person=BANNED),
    additions.lies: event(LIES),
    additions.seems_to_lie: event(LIES[:2]),
    additions.in_the_water: event([seen(0, 0.6, height=0.2)], [POOL]),
    additions.dog_among_livestock: event([seen(0, 0.6, "dog"), seen(0, 0.6, "sheep", x=0.8)]),
    additions.bear_by_night: event([seen(0, 0.6, "bear")], dark=True),
    additions.vehicle_on_the_ground: event(DRIVES_IN),
    additions.vehicle_waits: at_two(event([*stay(0.35, 70, "car"), *stay(0.3, 70, x=0.8)])),
    additions.thing_taken: changed(event(stay(0.8)), "parcel"),
    additions.vehicle_went: changed(event(stay(0.6)), "car"),
    additions.vehicle_came_to_stay: changed(event(DRIVES_IN, mode="away"), "car", ChangeKind.CAME),
}


def without(rule: Rule, evidence: Evidence) -> int:
    """The score without a rule."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ADDITIONS", "RELIEFS"):
            patch.setattr(scoring, name, tuple(one for one in getattr(scoring, name) if one is not rule))
        return assess(evidence).score


def test_every_relief_and_every_danger_has_an_event_here() -> None:
    """A new one must have, too."""
    assert {*RELIEVED} == {*RELIEFS}
    assert {*WORSENED} == {*ADDITIONS}


@pytest.mark.parametrize("rule", RELIEFS, ids=lambda rule: rule.__name__)
def test_each_relief_makes_an_event_less(rule: Rule) -> None:
    assert assess(RELIEVED[rule]).score < without(rule, RELIEVED[rule])


@pytest.mark.parametrize("rule", ADDITIONS, ids=lambda rule: rule.__name__)
def test_each_danger_makes_an_event_more(rule: Rule) -> None:
    assert assess(WORSENED[rule]).score > without(rule, WORSENED[rule])


@given(events)
@example(event([seen(0, 0.35, score=0.5)], mode="home"))
def test_without_any_relief_the_score_is_never_lower(evidence: Evidence) -> None:
    score = assess(evidence).score
    for rule in RELIEFS:
        assert without(rule, evidence) >= score, rule.__name__


@given(events)
def test_without_any_danger_the_score_is_never_higher(evidence: Evidence) -> None:
    score = assess(evidence).score
    for rule in ADDITIONS:
        assert without(rule, evidence) <= score, rule.__name__


STEPS = {
    "relief_limit": replace(
        event([seen(0, 0.35, score=0.5)], mode="home"), expected=(ExpectedVisit("v", "x"),)
    ),
    "floor": event([seen(0, 0.35), seen(3, 0.6)], mode="away"),
    "range": event(stay(0.35, 10), mode="home"),
    "range at the top": event([*stay(0.95), *stay(0.95, x=0.8)], mode="away", dark=True),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_sum_is_a_factor_with_the_points_that_it_moved(step: str) -> None:
    result = assess(STEPS[step])
    (moved,) = (factor.points for factor in result.factors if factor.name == step.split()[0])
    assert moved != 0
    assert sum(factor.points for factor in result.factors) == result.score


def test_a_tall_person_in_a_public_zone_hides_nobody_who_comes_in() -> None:
    comes_in = event([seen(0, 0.35), seen(3, 0.6)], mode="away")
    tall = event([seen(30, 0.39, height=0.95, x=0.9)], mode="away")
    assert assess(together(comes_in, tall)).rules_floor == assess(comes_in).rules_floor == weights.HIGH


def test_a_doubted_zone_beside_a_believed_one_is_no_public_ground() -> None:
    far = [seen(0, 0.35), seen(3, 0.45)]
    found = event(far, [STREET, EVERYWHERE], dark=True, mode="away")
    names = {factor.name: factor.points for factor in assess(found).factors}
    assert (names["dark"], "away" in names) == (weights.DARK, True)


def test_a_parked_car_does_not_hide_another_that_comes() -> None:
    parked = replace(
        event(stay(0.6, 20, "car", x=0.8)),
        past=(PastEvent(START - timedelta(minutes=9), START, ("car",), stationary_matches=1),),
    )
    comes = replace(event(DRIVES_IN), past=parked.past)
    assert assess(parked).score < assess(comes).score == assess(together(parked, comes)).score
    one_more = together(parked, event(stay(0.6, 20, "truck", x=0.3)))
    assert "stands" not in {factor.name for factor in assess(one_more).factors}


def test_a_parked_car_whose_box_moves_over_a_line_has_not_come() -> None:
    boxes = [0.39, 0.41, 0.39, 0.41]
    car = [replace(seen(5 * step, foot, "car"), stands=True) for step, foot in enumerate(boxes)]
    found = event([*car, *stay(0.6, 20, x=0.8)], dark=True)
    assert any(track.scene.crossings for track in found.tracks)
    assert not {"arrived", "vehicle"} & {factor.name for factor in assess(found).factors}


@pytest.mark.parametrize("passes", ["cat", "car"])
def test_what_passes_does_not_hide_a_vehicle_that_is_gone(passes: str) -> None:
    gone = changed(event((), mode="away"), "car")
    found = event([seen(second, 0.35, passes, x=0.1 + 0.2 * second) for second in range(4)], mode="away")
    beside = changed(found, "car")
    assert assess(beside).score >= assess(gone).score >= weights.MEDIUM
    result = assess(changed(event(stay(0.6), mode="away", person=RESIDENT), "car"))
    assert result.score < weights.MEDIUM, "somebody known may drive it away"


def test_a_thing_that_came_first_does_not_hide_a_vehicle_that_is_gone() -> None:
    gone = changed(event((), mode="away"), "car")
    earlier = SceneChange("parcel", ChangeKind.CAME, START - timedelta(minutes=1), None)
    both = replace(gone, changes=(earlier, *gone.changes))
    assert assess(both).score == assess(gone).score
    assert assess(both).summary == assess(gone).summary


def test_who_is_in_a_place_that_nobody_names_is_not_where_a_visit_is_expected() -> None:
    visit = replace(event(stay(0.6), []), expected=(ExpectedVisit("v", "cleaner", (), ("door",)),))
    assert "expected" not in {factor.name for factor in assess(visit).factors}


def test_whoever_comes_over_the_lawn_is_not_who_was_reported_to_arrive() -> None:
    by_door = [seen(0, 0.8), *(seen(second, 0.6) for second in range(3, 60, 3))]
    by_lawn = [seen(0, 0.6), *(seen(second, 0.8) for second in range(3, 60, 3))]
    for found, relieved in ((by_door, True), (by_lawn, False)):
        result = assess(replace(event(found), present=(RESIDENT,)))
        assert ("present" in {factor.name for factor in result.factors}) is relieved


def test_what_a_changed_thing_is_called_makes_no_difference() -> None:
    scores = {assess(changed(event(()), thing)).score for thing in ("parcel", "bear", "person", "CRITICAL")}
    assert len(scores) == 1
