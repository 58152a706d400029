"""The score of rules/v2: additions, less at most 40 points of relief, raised to the highest floor. Pure.

An event is what its weightiest thing is: each track is scored by itself, with what the others mean for it.
Every step is a factor, so the points of all factors add up to the score.
"""

from collections.abc import Sequence

from reason_svc.evidence import Evidence
from reason_svc.reasoner import ReasonerResult, ScoreFactor
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.additions import ADDITIONS
from reason_svc.rules.v2.floors import Floor, floors_of
from reason_svc.rules.v2.reliefs import RELIEFS
from reason_svc.rules.v2.subject import EventScene, Subject, read_event
from reason_svc.rules.v2.summary import summarise
from reason_svc.rules.v2.texts import factor

NAME = "rules/v2"


def assess(evidence: Evidence) -> ReasonerResult:
    scene = read_event(evidence)
    subject, factors = max(
        ((subject, _factors_of(subject, scene)) for subject in scene.subjects),
        key=lambda scored: (_total(scored[1]), scored[0].label == "person", scored[0].track.id),
    )
    factors += _without_mode(evidence)
    factors += _raised(_total(factors), list(floors_of(scene)))
    factors += _in_range(_total(factors))
    score = _total(factors)
    return ReasonerResult(NAME, score, summarise(scene, subject), tuple(factors), rules_score=score)


def _factors_of(subject: Subject, scene: EventScene) -> list[ScoreFactor]:
    added = [found for rule in ADDITIONS if (found := rule(subject, scene))]
    relieved = [found for rule in RELIEFS if (found := rule(subject, scene))]
    too_much = -_total(relieved) - weights.MOST_RELIEF
    if too_much > 0:
        text = f"all relief together takes at most {weights.MOST_RELIEF} points"
        relieved.append(factor("relief_limit", too_much, text, ()))
    return added + relieved


def _without_mode(evidence: Evidence) -> list[ScoreFactor]:
    return [] if evidence.mode else [factor("mode", 0, "no mode is set: nobody said who is at home", ())]


def _raised(score: int, floors: Sequence[Floor]) -> list[ScoreFactor]:
    highest = max(floors, key=lambda floor: floor.score, default=None)
    if highest is None or highest.score <= score:
        return []
    return [factor("floor", highest.score - score, highest.text, highest.subject.detections)]


def _in_range(score: int) -> list[ScoreFactor]:
    held = max(0, min(100, score))
    return [] if held == score else [factor("range", held - score, "a score is from 0 to 100", ())]


def _total(factors: Sequence[ScoreFactor]) -> int:
    return sum(factor.points for factor in factors)
