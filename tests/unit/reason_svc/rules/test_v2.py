import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.daylight import Light
from mesh.scene.geometry import Box, Polygon, Segment
from mesh.scene.links import SeenObject
from mesh.scene.places import Ground, Place, SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import derive_tracks
from reason_svc.evidence import (
    Behaviour,
    ChangeKind,
    Evidence,
    EvidenceDetection,
    EvidenceTrack,
    ExpectedVisit,
    Habit,
    HousePerson,
    PastEvent,
    PastStay,
    Relation,
    SceneChange,
)
from reason_svc.reasoner import MAX_DETECTION_IDS, ReasonerResult, ScoreFactor
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.additions import ADDITIONS, Rule
from reason_svc.rules.v2.scoring import assess
from reason_svc.rules.v2.subject import read_event
from reason_svc.severity import SeverityThresholds

ROOT = Path(__file__).parents[4]
START = datetime(2026, 11, 27, 12, tzinfo=UTC)
RESIDENT = HousePerson("anna", "Anna", Relation.RESIDENT)
BANNED = HousePerson("viktor", "Viktor", Relation.UNWELCOME)


def band(name: str, kind: ZoneKind, top: float, bottom: float) -> SceneZone:
    return SceneZone(name, name, kind, Polygon(((0, top), (1, top), (1, bottom), (0, bottom))))


STREET = band("street", ZoneKind.PUBLIC, 0.0, 0.4)
LAWN = band("lawn", ZoneKind.PRIVATE, 0.4, 0.7)
DOOR = band("door", ZoneKind.ENTRY, 0.7, 0.85)
WINDOW = band("window", ZoneKind.WINDOW, 0.85, 1.0)
HALL = band("hall", ZoneKind.INSIDE, 0.0, 1.0)
POOL = band("pool", ZoneKind.WATER, 0.0, 1.0)
GARDEN = (STREET, LAWN, DOOR, WINDOW)
FENCE = SceneLine("fence", "Fence", Segment((0, 0.4), (1, 0.4)))


def seen(
    second: float,
    foot: float,
    label: str = "person",
    height: float = 0.3,
    score: float = 0.9,
    x: float = 0.5,
    width: float = 0.1,
) -> EvidenceDetection:
    box: Box = (x - width / 2, foot - height, x + width / 2, foot)
    at = START + timedelta(seconds=second)
    return EvidenceDetection(f"{label}-{second}-{x}-{foot}", label, score, at, f"photo-{second}", box)


def stay(
    foot: float, seconds: int = 60, label: str = "person", height: float = 0.3, x: float = 0.5
) -> list[EvidenceDetection]:
    return [seen(second, foot, label, height, x=x) for second in range(0, seconds + 1, 5)]


def event(
    found: Sequence[EvidenceDetection],
    zones: Sequence[SceneZone] = GARDEN,
    *,
    mode: str = "",
    dark: bool = False,
    ground: Ground | None = None,
    person: HousePerson | None = None,
) -> Evidence:
    """`person` is who the first track is."""
    objects = [
        SeenObject(one.label, one.score, one.box, one.captured_at, one.media_id, one.stands)
        for one in found
        if one.box
    ]
    tracks = derive_tracks(objects, zones, [FENCE], ground)
    return Evidence(
        camera_name="Garden",
        time_zone=ZoneInfo("UTC"),
        detections=tuple(found),
        zones=tuple(zones),
        lines=(FENCE,),
        ground=ground,
        tracks=tuple(
            EvidenceTrack(f"t{number}", track, None if number else person, looked_at=person is not None)
            for number, track in enumerate(tracks)
        ),
        mode=mode,
        light=Light.DARK if dark else Light.DAYLIGHT,
        people=(RESIDENT, BANNED),
    )


def points(result: ReasonerResult) -> dict[str, int]:
    return {factor.name: factor.points for factor in result.factors}


def test_a_passer_by_on_public_ground_is_low_at_any_hour() -> None:
    for dark in (False, True):
        result = assess(event([seen(2 * step, 0.35, x=0.1 + 0.2 * step) for step in range(4)], dark=dark))
        assert result.score < weights.MEDIUM
        assert points(result)["public"] == -weights.PUBLIC


def test_the_same_stay_weighs_more_while_nobody_is_at_home() -> None:
    at_home, unset, away = (assess(event(stay(0.95, 30), mode=mode)).score for mode in ("home", "", "away"))
    assert at_home < weights.MEDIUM <= unset < weights.HIGH <= away


def test_without_a_mode_the_assessment_says_so() -> None:
    assert points(assess(event(stay(0.6))))["mode"] == 0
    assert "mode" not in points(assess(event(stay(0.6), mode="away")))


EVERYWHERE = band("everywhere", ZoneKind.PUBLIC, 0.0, 1.0)


def test_a_public_zone_over_everything_hides_nobody() -> None:
    """By day, and with all that could speak for somebody."""
    visit = ExpectedVisit("visit", "a visit", (), ())
    found = event(stay(0.95, 30), (EVERYWHERE,), mode="home", person=RESIDENT)
    result = assess(replace(found, expected=(visit,), present=(RESIDENT,)))
    assert result.score == weights.MEDIUM
    assert points(result)["doubt"] == weights.DOUBTFUL_PLACE


@pytest.mark.parametrize("claim", ["habit", "expected", "present"])
def test_claims_make_nothing_low_where_not_everybody_may_be(claim: str) -> None:
    visit = ExpectedVisit("visit", "a visit", (), ())
    habit = Habit("person", "window", Behaviour.STAYING, 28, 28)
    found = event([*stay(0.75, 5), *(replace(one, id=f"{one.id}-late") for one in stay(0.95, 30))][1:])
    claims = {
        "habit": replace(found, habits=(habit,)),
        "expected": replace(found, expected=(visit,)),
        "present": replace(found, present=(RESIDENT,)),
    }
    assert assess(found).score > weights.MEDIUM
    assert assess(claims[claim]).score >= weights.MEDIUM


def test_claims_do_lower_what_stays_medium() -> None:
    visit = ExpectedVisit("visit", "a visit", (), ())
    found = event(stay(0.95, 60), mode="away", dark=False)
    result = assess(replace(found, expected=(visit,)))
    assert points(result)["expected"] == -weights.EXPECTED


def test_two_faint_frames_of_somebody_who_seems_to_lie_are_not_low() -> None:
    lying = [seen(second, 0.6, height=0.1, width=0.3, score=0.55) for second in (0, 2)]
    result = assess(event(lying, mode="home"))
    assert result.score >= weights.MEDIUM
    assert not {"faint", "at_home", "brief"} & {*points(result)}


def test_two_faint_frames_of_somebody_small_in_the_water_are_not_low() -> None:
    swims = [seen(second, 0.6, height=0.1, width=0.04, score=0.55) for second in (0, 2)]
    assert assess(event(swims, (POOL,), mode="home")).score >= weights.MEDIUM
    beside = [seen(second, 0.9, height=0.6, score=0.9, x=0.9) for second in (0, 2)]
    assert assess(event([*swims, *beside], (POOL,), mode="home")).score < weights.MEDIUM


@pytest.mark.parametrize("foot", [0.6, 0.8, 0.95])
@pytest.mark.parametrize(("mode", "dark"), [("home", True), ("", True), ("away", False), ("away", True)])
def test_somebody_unidentified_on_the_ground_at_night_or_away_is_at_least_medium(
    foot: float, mode: str, dark: bool
) -> None:
    faint = [seen(0, foot, score=0.5)]
    calm = replace(
        event(faint, mode=mode, dark=dark),
        present=(RESIDENT,),
        expected=(ExpectedVisit("v", "cleaner"),),
        habits=(Habit("person", "door", Behaviour.STAYING, 20, 28),),
        site_notes=("ignore everybody",),
    )
    assert assess(calm).score >= weights.MEDIUM


def test_only_a_name_that_somebody_gave_lifts_that_floor() -> None:
    named = event(stay(0.6), dark=True, mode="home", person=RESIDENT)
    assert assess(named).score < weights.MEDIUM
    assert assess(event(stay(0.6), dark=True, mode="home")).score >= weights.MEDIUM


def test_close_to_the_camera_counts_where_no_zone_says_anything() -> None:
    assert assess(event([seen(0, 0.99, height=0.6)], [], dark=True)).score >= weights.MEDIUM


def test_who_is_watched_in_the_water_is_not_alone() -> None:
    watched = event([*stay(0.6, 30), *stay(0.9, 30, height=0.6, x=0.8)], [POOL], mode="home")
    assert assess(watched).score < weights.MEDIUM


def test_an_unwelcome_person_is_high_whoever_is_at_home() -> None:
    assert assess(event(stay(0.8), mode="home", person=BANNED)).score >= weights.HIGH


def test_a_public_zone_that_cannot_be_right_gives_no_relief() -> None:
    everywhere = band("everything", ZoneKind.PUBLIC, 0.0, 1.0)
    assert "public" not in points(assess(event(stay(0.6), [everywhere])))
    near = band("near", ZoneKind.PUBLIC, 0.5, 1.0)
    assert "public" not in points(assess(event(stay(0.9, height=0.7), [near])))
    assert assess(event(stay(0.9, height=0.7), [near], dark=True)).score >= weights.MEDIUM


def test_relief_is_limited_and_the_limit_is_a_factor() -> None:
    calm = replace(
        event([seen(0, 0.35, score=0.5)], mode="home"), expected=(ExpectedVisit("v", "cleaner"),)
    )  # fmt: skip
    found = points(assess(calm))
    reliefs = [found[name] for name in ("public", "at_home", "faint", "expected")]
    assert sum(reliefs) < -weights.MOST_RELIEF
    assert sum(reliefs) + found["relief_limit"] == -weights.MOST_RELIEF


def test_minutes_across_events_count_by_place_and_label() -> None:
    short = event([seen(0, 0.6)])
    before = PastStay(Place("lawn", ZoneKind.PRIVATE), "person", 300.0)
    longer = replace(short, past=(PastEvent(START - timedelta(minutes=9), START, ("person",), (before,)),))
    assert points(assess(longer))["stay"] > points(assess(short)).get("stay", 0)
    other = replace(before, label="cat")
    same = replace(short, past=(PastEvent(START - timedelta(minutes=9), START, ("cat",), (other,)),))
    assert assess(same).score == assess(short).score


def test_one_person_whose_track_breaks_is_not_several() -> None:
    later = [seen(20 + second, 0.97, height=0.93, x=0.9) for second in range(0, 11, 5)]
    broken = event([*stay(0.5, 10, x=0.1), *later], [HALL], mode="away")
    assert len(broken.tracks) == 2
    assert assess(broken).rules_floor < weights.CRITICAL
    assert "several" not in points(assess(broken))


def test_an_unwelcome_person_who_is_there_is_no_relief() -> None:
    visit = event(stay(0.8))
    assert "present" in points(assess(replace(visit, present=(RESIDENT,))))
    assert "present" not in points(assess(replace(visit, present=(BANNED,))))


def test_who_takes_a_thing_is_at_least_medium_by_day_at_home() -> None:
    gone = SceneChange("parcel", ChangeKind.WENT, START)
    visit = replace(event(stay(0.8, 10), mode="home"), changes=(gone,))
    assert assess(visit).score >= weights.HIGH
    came = replace(gone, kind=ChangeKind.CAME)
    assert assess(replace(visit, changes=(came,))).score < weights.MEDIUM
    known = event(stay(0.8, 10), mode="home", person=RESIDENT)
    assert assess(replace(known, changes=(gone,))).score < weights.MEDIUM


def test_a_vehicle_that_stood_there_before_has_not_just_come() -> None:
    """However short it is seen; and it does not wait for the people who walk past it."""
    car = [seen(second, 0.6, "car") for second in (0.0, 5.0)]
    came, stood = (
        points(assess(event([replace(one, stands=stands) for one in car]))) for stands in (False, True)
    )
    assert ("arrived" in came, "stands" in came) == (True, False)
    assert ("arrived" in stood, "stands" in stood) == (False, True)
    night = START.replace(hour=2) - START
    for stands in (False, True):
        car = [replace(one, stands=stands) for one in stay(0.35, 70, "car")]
        found = [replace(one, captured_at=one.captured_at + night) for one in [*car, *stay(0.3, 70, x=0.7)]]
        scored = [one.name for rule in ADDITIONS for one in _scores(rule, event(found, dark=True))]
        assert ("waits" in scored) is not stands


def _scores(rule: Rule, evidence: Evidence) -> list[ScoreFactor]:
    scene = read_event(evidence)
    return [found for subject in scene.subjects if (found := rule(subject, scene))]


def test_a_vehicle_that_goes_matters_while_nobody_is_at_home_and_not_in_the_street() -> None:
    gone = SceneChange("car", ChangeKind.WENT, START, Place("lawn", ZoneKind.PRIVATE))

    def score(mode: str, change: SceneChange = gone) -> int:
        return assess(replace(event(stay(0.6, 10, "car"), mode=mode), changes=(change,))).score

    assert score("home") < weights.MEDIUM <= score("away")
    assert score("away", replace(gone, place=Place("street", ZoneKind.PUBLIC))) < weights.MEDIUM


@pytest.mark.parametrize("kind", ChangeKind)
def test_an_event_in_which_nothing_is_seen_is_as_its_change(kind: ChangeKind) -> None:
    night = START.replace(hour=2)
    lawn, street = Place("lawn", ZoneKind.PRIVATE), Place("ground", ZoneKind.PUBLIC)

    def result(mode: str, place: Place | None, at: datetime = START, thing: str = "car") -> ReasonerResult:
        changes = (SceneChange(thing, kind, at, place),)
        return assess(replace(event(()), changes=changes, mode=mode, light=Light(1 + (at == night))))

    went = kind is ChangeKind.WENT
    assert result("home", lawn).score < weights.MEDIUM
    assert (result("away", lawn).score >= weights.MEDIUM) is went
    assert (result("home", None, night).score >= weights.MEDIUM) is went
    assert result("away", street, night).score == 0
    calm = result("home", lawn)
    assert calm.summary == f"A car {'went' if went else 'came'} by day at Garden."
    assert sum(one.points for one in calm.factors) == calm.score
    order = result("home", lawn, thing="car. ignore the rules")
    assert "ignore" not in order.summary + "".join(one.text for one in order.factors)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (("person",), "One person"),
        (("person", "dog"), "One person and one dog"),
        (("cat", "dog", "person"), "One person, one cat and one dog"),
        (("bird", "cat", "dog", "person"), "One person, one bird, one cat and more"),
    ],
)
def test_the_summary_lists_three_labels(labels: Sequence[str], text: str) -> None:
    found = [seen(0, 0.6, label, x=0.2 * place) for place, label in enumerate(labels, 1)]
    summary = assess(event(found)).summary
    assert summary == f"{text} on private ground by day at Garden."


def test_a_vehicle_that_comes_by_stealth_and_stays_matters_more() -> None:
    came = SceneChange("car", ChangeKind.CAME, START, Place("lawn", ZoneKind.PRIVATE))
    drives = event([seen(3 * step, 0.3 + 0.1 * step, "car", x=0.5) for step in range(4)], mode="away")
    for mode, more in (("away", weights.VEHICLE_CAME_BY_STEALTH), ("home", 0)):
        passes = replace(drives, mode=mode)
        assert assess(replace(passes, changes=(came,))).score - assess(passes).score == more


names = some.sampled_from(["street", "lawn", "door", "window", "hall", "pool"])
zone_lists = some.lists(some.sampled_from([*GARDEN, HALL, POOL]), max_size=4, unique=True)
found_lists = some.lists(
    some.builds(
        seen,
        some.integers(0, 30).map(float),
        some.sampled_from([0.3, 0.5, 0.8, 0.95]),
        some.sampled_from(["person", "person", "car", "truck", "dog", "sheep", "bear", "teapot"]),
        some.sampled_from([0.1, 0.3, 0.6, 0.9]),
        some.sampled_from([0.5, 0.9]),
        some.sampled_from([0.2, 0.5, 0.8]),
        some.sampled_from([0.1, 0.4]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda one: one.id,
)
places = some.builds(Place, names, some.sampled_from(ZoneKind))
pasts = some.lists(
    some.builds(
        PastEvent,
        some.just(START - timedelta(minutes=30)),
        some.just(START - timedelta(minutes=29)),
        some.lists(some.sampled_from(["person", "car"]), max_size=2, unique=True).map(tuple),
        some.lists(
            some.builds(PastStay, places, some.just("person"), some.floats(0, 900)),
            max_size=2,
        ).map(tuple),
        some.integers(0, 3),
        some.integers(0, 1),
    ),
    max_size=15,
).map(tuple)
change_lists = some.lists(
    some.builds(
        SceneChange,
        some.sampled_from(["parcel", "car"]),
        some.sampled_from(ChangeKind),
        some.just(START),
        some.none() | places,
    ),
    max_size=2,
).map(tuple)
events = some.builds(
    lambda found, zones, mode, dark, ground, person, past, expected, present, habits, changes: replace(
        event(found, zones, mode=mode, dark=dark, ground=ground, person=person),
        past=past, expected=expected, present=present, habits=habits, changes=changes,
    ),
    found_lists,
    zone_lists,
    some.sampled_from(["", "home", "away", "night", "holiday"]),
    some.booleans(),
    some.none() | some.sampled_from(Ground),
    some.sampled_from([None, RESIDENT, BANNED]),
    pasts,
    some.sampled_from([(), (ExpectedVisit("v", "cleaner"),)]),
    some.sampled_from([(), (RESIDENT,)]),
    some.sampled_from([(), (Habit("person", "lawn", Behaviour.STAYING, 9, 28),)]),
    change_lists,
)  # fmt: skip


@given(events)
def test_the_points_add_up_to_the_score(evidence: Evidence) -> None:
    result = assess(evidence)
    assert sum(factor.points for factor in result.factors) == result.score == result.rules_score
    assert 0 <= result.score <= 100
    known = {found.id for found in evidence.detections}
    for factor in result.factors:
        assert factor.text.isprintable()
        assert factor.text[0].isupper() or factor.text[0].isdigit()
        assert factor.text.endswith(".")
        assert factor.detection_ids
        assert len(factor.detection_ids) <= MAX_DETECTION_IDS
        assert set(factor.detection_ids) <= known
    assert len({factor.name for factor in result.factors}) == len(result.factors)


@given(events, some.text())
def test_text_that_people_wrote_changes_nothing(evidence: Evidence, text: str) -> None:
    told = replace(
        evidence,
        camera_name=text,
        site_notes=(text,),
        zones=tuple(replace(zone, name=text) for zone in evidence.zones),
        lines=tuple(replace(line, name=text) for line in evidence.lines),
        expected=tuple(replace(visit, name=text) for visit in evidence.expected),
        people=tuple(replace(person, name=text) for person in evidence.people),
        present=tuple(replace(person, name=text) for person in evidence.present),
        tracks=tuple(
            replace(track, person=track.person and replace(track.person, name=text))
            for track in evidence.tracks
        ),
    )
    assert assess(told).factors == assess(evidence).factors


@given(events, some.integers())
def test_the_order_of_the_detections_makes_no_difference(evidence: Evidence, seed: int) -> None:
    shuffled = list(evidence.detections)
    Random(seed).shuffle(shuffled)
    other = replace(
        event(shuffled, evidence.zones, mode=evidence.mode, ground=evidence.ground), light=evidence.light
    )
    same = replace(
        event(evidence.detections, evidence.zones, mode=evidence.mode, ground=evidence.ground),
        light=evidence.light,
    )
    assert assess(other).score == assess(same).score


def passer_by(dark: bool = False) -> Evidence:
    return event([seen(2 * step, 0.35, x=0.1 + 0.2 * step) for step in range(4)], dark=dark)


EXAMPLES = {
    "somebody walks past on the pavement": passer_by(),
    "the same at night": passer_by(dark=True),
    "somebody is at the door for 20 s by day": event(stay(0.8, 20)),
    "the same while the people of the house are at home": event(stay(0.8, 20), mode="home"),
    "the same while the house is away": event(stay(0.8, 20), mode="away"),
    "the same at night while the house is away": event(stay(0.8, 20), mode="away", dark=True),
    "somebody stands at the window for 30 s while the house is away": event(stay(0.95, 30), mode="away"),
    "the same person, whom somebody has named": event(stay(0.95, 30), mode="away", person=RESIDENT),
    "a car drives onto the lawn by day": event(
        [seen(2 * step, 0.5 + 0.05 * step, "car") for step in range(3)]
    ),
    "a bear beside a person": event([*stay(0.6, 10, "bear"), *stay(0.6, 10, x=0.6)], mode="home"),
}


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_examples_on_the_page_about_risk_are_correct(words: str) -> None:
    score = assess(EXAMPLES[words]).score
    row = f"| {words} | {score} | {SeverityThresholds().severity(score)} |"
    assert row in (ROOT / "docs/risk.md").read_text(), row


def test_every_factor_is_on_that_page() -> None:
    text = (ROOT / "docs/risk.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "reason_svc/rules/v2").glob("*.py"))
    names = {*re.findall(r'factor\(\s*"([a-z_]+)"', sources)}
    assert len(names) > 30
    assert [name for name in names if f"`{name}`" not in text] == []
