"""rules/v2 must fit the labelled events as docs/risk.md says, and nothing cheap may hide an incident."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reason_svc.rules.v1 import scoring as v1
from tests.judge.assessing import by_rules, scores_of
from tests.judge.attacks import BOUNDED, NEVER, Attack, became_low, two_faint_frames
from tests.judge.context import EvidenceKind
from tests.judge.figures import FIGURES, Scores, both_right, moved_by_words, points, s2, s2_high, s3
from tests.judge.labelled import HIGH, MEDIUM, LabelledEvent, pairs_of, read_events

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
    assert (s2(EVENTS, found) or 0) <= wanted.s2
    assert (s2_high(EVENTS, found) or 0) <= wanted.s2_high
    assert (s3(EVENTS, found) or 0) >= wanted.s3
    assert sum(both_right(pair, found) for pair in pairs_of(EVENTS) if pair.rises) >= wanted.pairs
    assert moved_by_words(EVENTS, found) == 0


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
    """rules/v1 would not pass it, and two faint frames of everything hide some."""
    by_v1 = scores_of(EVENTS, "own", by_rules(v1.NAME))
    assert (s2(EVENTS, by_v1) or 0) > 0.8
    serious = [event for event in INCIDENTS if event.floor >= HIGH]
    assert (
        became_low(serious, dict.fromkeys([event.id for event in serious], 100), _all_low(serious)) == serious
    )
    assert two_faint_frames in BOUNDED


def _all_low(events: list[LabelledEvent]) -> Scores:
    return {event.id: 0 for event in events}
