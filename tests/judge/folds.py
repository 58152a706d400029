"""How well weights do on scenarios that they were not fitted to.

For each fifth of the scenarios the weights of rules/v2 are fitted to the others, from one and the same
starting point that knows nothing of the set, and the fifth is assessed with them. The figures of all fifths
together say what to expect of the rules' form, where those of dev say what its authors looked at.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from reason_svc.evidence import Evidence
from reason_svc.messages import evidence_of
from reason_svc.rules.v2 import scoring, weights
from reason_svc.rules.v2.weights import StayPoints
from tests.judge.context import EvidenceKind, evidence_message
from tests.judge.figures import SEED, Scores, both_right
from tests.judge.labelled import HIGH, MEDIUM, LabelledEvent, pairs_of

# What is fitted: not the levels, the class points (a scale of its own) and the limit of relief.
FIXED = {"MEDIUM", "HIGH", "CRITICAL", "MOST_RELIEF", "OTHER_CLASS"}
START_POINTS, START_PER_SECOND, START_MOST = 15, 0.25, 20
FACTORS = (0.5, 0.8, 1.25, 2.0)
PASSES = 2
# A false alarm of the level HIGH, and a pair, count that much beside an event on the wrong side.
HIGH_COST, PAIR_COST = 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Weight:
    """One number of the module `weights`: an attribute, or a field of a place's StayPoints."""

    name: str
    place: Any = None

    def read(self) -> float:
        return float(getattr(weights.STAY[self.place] if self.place else weights, self.name))

    def write(self, value: float) -> None:
        if self.place:
            changes: dict[str, Any] = {self.name: round(value) if self.name == "most" else value}
            weights.STAY[self.place] = replace(weights.STAY[self.place], **changes)
        else:
            is_whole = isinstance(getattr(weights, self.name), int)
            setattr(weights, self.name, round(value) if is_whole else value)


def held_out(events: Sequence[LabelledEvent], kind: EvidenceKind, folds: int) -> Scores:
    """The score of each event by weights that were fitted without its scenario."""
    scenarios = sorted({event.scenario for event in events})
    random.Random(SEED).shuffle(scenarios)
    evidence = {event.id: evidence_of(evidence_message(event.item, kind)) for event in events}
    scores: dict[str, int | None] = {}
    for fold in range(folds):
        left_out = set(scenarios[fold::folds])
        with _weights_kept():
            _fit([event for event in events if event.scenario not in left_out], evidence)
            for event in events:
                if event.scenario in left_out:
                    scores[event.id] = scoring.assess(evidence[event.id]).score
    return scores


def fitted() -> list[Weight]:
    """What is fitted, in the order of the module."""
    named = [
        Weight(name)
        for name, value in vars(weights).items()
        if name.isupper() and isinstance(value, int | float) and name not in FIXED
    ]
    stays = [
        Weight(name, place)
        for place, points in weights.STAY.items()
        for name in StayPoints.__slots__
        if getattr(points, name)  # zero means that a place does not count then
    ]
    return named + stays


def _fit(events: Sequence[LabelledEvent], evidence: dict[str, Evidence]) -> None:
    """Coordinate descent: each weight in turn is multiplied by the factor with which fewest are wrong."""
    chosen = fitted()
    for weight in chosen:
        value = weight.read()
        per_second = isinstance(value, float) and value < 1
        start = START_PER_SECOND if per_second else START_MOST if weight.place else START_POINTS
        weight.write(start)
    cost = _cost(events, evidence)
    for _ in range(PASSES):
        for weight in chosen:
            before = best = weight.read()
            for factor in FACTORS:
                weight.write(before * factor)
                if (found := _cost(events, evidence)) < cost:
                    cost, best = found, weight.read()
            weight.write(best)


def _cost(events: Sequence[LabelledEvent], evidence: dict[str, Evidence]) -> float:
    """Also counts by how much a score is wrong, a little, so that small steps show."""
    scores = {event.id: scoring.assess(evidence[event.id]).score for event in events}
    cost = 0.0
    for event in events:
        score = scores[event.id]
        if event.benign:
            cost += (score >= MEDIUM) + HIGH_COST * (score >= HIGH) + 0.01 * max(0, score - MEDIUM + 1)
        else:
            cost += (score < event.floor) + 0.01 * max(0, event.floor - score)
    return cost + PAIR_COST * sum(not both_right(p, scores) for p in pairs_of(events) if p.rises)


@contextmanager
def _weights_kept() -> Iterator[None]:
    before = [(weight, weight.read()) for weight in fitted()]
    try:
        yield
    finally:
        for weight, value in before:
            weight.write(value)
