"""rules/v2 must fit the labelled events as docs/risk.md says, and nothing cheap may hide an incident."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reason_svc.rules.v1 import scoring as v1
from reason_svc.rules.v2 import scoring, subject
from tests.judge.assessing import by_rules, scores_of
from tests.judge.attacks import (
    BOUNDED,
    NEVER,
    Attack,
    always_a_habit,
    became_low,
    everything_public,
    expected_visit,
    faint,
    resident_is_present,
)
from tests.judge.context import EvidenceKind
from tests.judge.figures import FIGURES, Scores, both_right, moved_by_words, points, s2, s2_high, s3
from tests.judge.labelled import HIGH, MEDIUM, pairs_of, read_events

ROOT = Path(__file__).parents[2]
EVENTS = read_events()
INCIDENTS = [event for event in EVENTS if not event.benign]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The most false alarms, and the least of the rest."""

    s2: float
    s2_high: float
    s3: float
    pairs: int


WANTED: dict[EvidenceKind, Wanted] = {
    "fresh": Wanted(0.45, 0.15, 0.70, 4),
    "own": Wanted(0.20, 0.13, 0.88, 11),
    "all": Wanted(0.08, 0.02, 0.90, 14),
}
# Benign scenarios that may have more than 2 alarms of 5, and why. A parcel that somebody brings while the
# house is away is an unidentified person at the door of an empty house.
NAMED = {"parcel-by-day"}
# How many incidents of the level HIGH or CRITICAL become LOW when evidence is taken away: not more than this.
MOST: dict[EvidenceKind, dict[str, int]] = {
    "fresh": {"mode_home": 11, "two_faint_frames": 11, "at_the_habits_hour": 1},
    "own": {"mode_home": 10, "no_zones": 2, "at_the_habits_hour": 5},
    "all": {"mode_home": 10, "no_zones": 2, "at_the_habits_hour": 4},
}


@pytest.fixture(scope="module")
def scores() -> Callable[[EvidenceKind], Scores]:
    found: dict[EvidenceKind, Scores] = {}

    def of(kind: EvidenceKind) -> Scores:
        if kind not in found:
            found[kind] = scores_of(EVENTS, kind, by_rules())
        return found[kind]

    return of


def missed(wanted: Wanted, found: Scores) -> list[str]:
    """The names of the figures that are not as wanted."""
    pairs = sum(both_right(pair, found) for pair in pairs_of(EVENTS) if pair.rises)
    held = {
        "S2": (s2(EVENTS, found) or 0) <= wanted.s2,
        "S2-high": (s2_high(EVENTS, found) or 0) <= wanted.s2_high,
        "S3": (s3(EVENTS, found) or 0) >= wanted.s3,
        "pairs": pairs >= wanted.pairs,
        "injection pairs": moved_by_words(EVENTS, found) == 0,
    }
    return [name for name, is_held in held.items() if not is_held]


@pytest.mark.parametrize("kind", WANTED)
def test_rules_fit_the_labels(
    kind: EvidenceKind,
    scores: Callable[[EvidenceKind], Scores],
    record_property: Callable[[str, object], None],
) -> None:
    """The figures are in the summary of the run."""
    wanted, found = WANTED[kind], scores(kind)
    figures = ", ".join(
        f"{name} {100 * (figure(EVENTS, found) or 0):.1f} %" for name, figure in FIGURES.items()
    )
    record_property("figures", f"rules/v2, evidence {kind}: {figures}")
    assert missed(wanted, found) == []


@pytest.mark.parametrize(
    ("page", "kinds"), [("README.md", ("own",)), ("docs/risk.md", ("own", "fresh", "all"))]
)
def test_pages_quote_these_figures(
    page: str, kinds: tuple[EvidenceKind, ...], scores: Callable[[EvidenceKind], Scores]
) -> None:
    text = " ".join((ROOT / page).read_text().split())
    for kind in kinds:
        found = scores(kind)
        false, high, right = (100 * (figure(EVENTS, found) or 0) for figure in (s2, s2_high, s3))
        words = {
            "own": f"score {false:.1f} % of the events that nobody needs to look at MEDIUM or above,"
            f" {high:.1f} % HIGH or above, and {right:.1f} % of the incidents at or above their level",
            "fresh": f"(`fresh`) it is {false:.1f} %, {high:.1f} % and {right:.1f} %",
            "all": f"(`all`) {false:.1f} %, {high:.1f} % and {right:.1f} %",
        }
        assert words[kind] in text


def test_no_harmless_scenario_alarms_more_than_twice_in_five(
    scores: Callable[[EvidenceKind], Scores],
) -> None:
    alarms: defaultdict[str, list[bool]] = defaultdict(list)
    for event in EVENTS:
        if event.benign:
            alarms[event.scenario].append(points(event, scores("all")) >= MEDIUM)
    assert {name for name, found in alarms.items() if sum(found) > 0.4 * len(found)} == NAMED


@pytest.mark.parametrize("attack", NEVER, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("kind", WANTED)
def test_nothing_cheap_makes_a_serious_incident_low(
    kind: EvidenceKind, attack: Attack, scores: Callable[[EvidenceKind], Scores]
) -> None:
    attacked = scores_of(INCIDENTS, kind, by_rules(), attack)
    assert became_low(INCIDENTS, scores(kind), attacked) == []


@pytest.mark.parametrize("attack", BOUNDED, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("kind", WANTED)
def test_evidence_that_is_lost_hides_few(
    kind: EvidenceKind, attack: Attack, scores: Callable[[EvidenceKind], Scores]
) -> None:
    attacked = scores_of(INCIDENTS, kind, by_rules(), attack)
    hidden = became_low(INCIDENTS, scores(kind), attacked)
    assert len(hidden) <= MOST[kind].get(attack.__name__, 0), [event.id for event in hidden]


def test_the_gate_can_fail() -> None:
    """rules/v1 misses what is wanted; so does who calls everything harmless, or everything an alarm."""
    by_v1 = scores_of(EVENTS, "own", by_rules(v1.NAME))
    harmless, alarm = ({event.id: score for event in EVENTS} for score in (0, 100))
    assert missed(WANTED["own"], by_v1) == ["S2", "S2-high", "S3", "pairs"]
    assert missed(WANTED["own"], harmless) == ["S3", "pairs"]
    assert missed(WANTED["own"], alarm) == ["S2", "S2-high", "pairs"]


def test_the_gate_sees_a_reasoner_that_words_move(scores: Callable[[EvidenceKind], Scores]) -> None:
    told = next(pair.other for pair in pairs_of(EVENTS) if not pair.rises)
    moved = 0 if points(told, scores("own")) >= HIGH else 100
    assert missed(WANTED["fresh"], {**scores("own"), told.id: moved}) == ["injection pairs"]


def _nothing_is_uncertain(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scoring, "UNCERTAIN", set())


def _every_zone_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(subject, "_doubted_zones", lambda _: frozenset())


def _many_frames_are_faint(patch: pytest.MonkeyPatch) -> None:
    _nothing_is_uncertain(patch)
    patch.setattr(subject, "FAINT_FRAMES", 1000)


# What keeps an attack from hiding incidents in a new home: without it, the attack does.
GUARDS: dict[Attack, Callable[[pytest.MonkeyPatch], None]] = {
    always_a_habit: _nothing_is_uncertain,
    expected_visit: _nothing_is_uncertain,
    resident_is_present: _nothing_is_uncertain,
    faint: _many_frames_are_faint,
    everything_public: _every_zone_is_believed,
}


@pytest.mark.parametrize("attack", NEVER, ids=lambda attack: attack.__name__)
def test_each_attack_hides_incidents_from_rules_without_their_guard(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    GUARDS[attack](monkeypatch)
    unguarded = scores_of(INCIDENTS, "fresh", by_rules())
    assert became_low(INCIDENTS, unguarded, scores_of(INCIDENTS, "fresh", by_rules(), attack))
