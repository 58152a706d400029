"""The score of rules/v2: additions, less at most 40 points of relief, raised to the highest floor. Pure.

An event is what its weightiest thing is: each track is scored by itself, with what the others mean for it.
Every step is a factor, so the points of all factors add up to the score.
"""

from collections.abc import Sequence

from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.reasoner import ReasonerResult, ScoreFactor
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.additions import ADDITIONS, only_changes, thing_taken, vehicle_gone
from reason_svc.rules.v2.floors import Floor, floors_of, seconds_alone_in_water
from reason_svc.rules.v2.reliefs import RELIEFS, UNCERTAIN
from reason_svc.rules.v2.subject import EventScene, Subject, read_event
from reason_svc.rules.v2.summary import summarise
from reason_svc.rules.v2.texts import factor

NAME = "rules/v2"


def assess(evidence: Evidence) -> ReasonerResult:
    scene = read_event(evidence)
    subject, factors = _weightiest(scene)
    factors += _without_mode(evidence)
    floor = max(floors_of(scene), key=lambda floor: floor.score, default=None)
    if floor and floor.score > _total(factors):
        factors.append(_raised(_total(factors), floor))
    factors += _in_range(_total(factors), subject.detections if subject else ())
    score = _total(factors)
    return ReasonerResult(
        NAME,
        score,
        summarise(scene, subject),
        tuple(factors),
        rules_score=score,
        rules_floor=floor.score if floor else 0,
    )


def _weightiest(scene: EventScene) -> tuple[Subject | None, list[ScoreFactor]]:
    """None, with the factors of the changes, if nothing is seen, or if a vehicle that is gone weighs more
    than what is seen. Somebody known may have taken it."""
    scored: list[tuple[Subject | None, list[ScoreFactor]]] = [
        (subject, _factors_of(subject, scene))
        for subject in sorted(scene.subjects, key=lambda one: (one.is_person, one.track.id), reverse=True)
    ]
    if not scored or (vehicle_gone(scene) and not any(person.is_known for person in scene.people)):
        scored.append((None, only_changes(scene)))
    return max(scored, key=lambda one: _total(one[1]))


def _factors_of(subject: Subject, scene: EventScene) -> list[ScoreFactor]:
    added = [found for rule in ADDITIONS if (found := rule(subject, scene))]
    reliefs = () if _is_in_doubt(subject, scene) else RELIEFS
    relieved = [found for rule in reliefs if (found := rule(subject, scene))]
    return added + relieved + _relief_limit(subject, _total(added), relieved)


def _is_in_doubt(subject: Subject, scene: EventScene) -> bool:
    """Whether it may be worse than it looks, so that nothing speaks for its being harmless."""
    looks_worse = subject.seems_to_lie or seconds_alone_in_water(subject, scene) is not None
    return subject.in_doubted_zone or looks_worse or thing_taken(subject, scene) is not None


def _relief_limit(subject: Subject, added: int, relieved: Sequence[ScoreFactor]) -> list[ScoreFactor]:
    """Gives back what is too much: in all, or of uncertain relief where not everybody may be."""
    relief = -_total(relieved)
    observed = -_total([found for found in relieved if found.name not in UNCERTAIN])
    allowed, text = (
        min(relief, weights.MOST_RELIEF),
        f"All relief takes at most {weights.MOST_RELIEF} points.",
    )
    is_medium = added - min(observed, weights.MOST_RELIEF) >= weights.MEDIUM
    if is_medium and not subject.in_the_open and added - allowed < weights.MEDIUM:
        allowed = added - weights.MEDIUM
        text = "What is usual, expected or hardly seen makes nothing LOW that is not on public ground."
    return [factor("relief_limit", relief - allowed, text, subject.detections)] if relief > allowed else []


def _without_mode(evidence: Evidence) -> list[ScoreFactor]:
    text = "No mode is set, so nobody has said who is at home."
    return [] if evidence.mode else [factor("mode", 0, text, evidence.detections)]


def _raised(score: int, floor: Floor) -> ScoreFactor:
    return factor("floor", floor.score - score, floor.text, floor.subject.detections)


def _in_range(score: int, detections: Sequence[EvidenceDetection]) -> list[ScoreFactor]:
    held = max(0, min(100, score))
    return [] if held == score else [factor("range", held - score, "A score is from 0 to 100.", detections)]


def _total(factors: Sequence[ScoreFactor]) -> int:
    return sum(factor.points for factor in factors)
