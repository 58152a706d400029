"""The factors of rules/v1, whose points add up to the score. Pure and deterministic.

The factors' names and texts are frozen: other texts need another version of the rules.
"""

from reason_svc.evidence import Evidence
from reason_svc.reasoner import ReasonerResult, ScoreFactor
from reason_svc.rules.v1.scene import Scene, detection_ids, read_scene
from reason_svc.rules.v1.summary import counted, duration, past_events, summarise
from reason_svc.rules.v1.weights import CONFIDENCE, hour_points, points_at

NAME = "rules/v1"


def assess(evidence: Evidence) -> ReasonerResult:
    """The score is the sum of the factors' points, which the table keeps within 0..100. Every factor is about
    the class that has the most points."""
    scene = read_scene(evidence)
    past = len(evidence.history)
    factors = (
        _class_factor(scene),
        _count_factor(scene),
        _confidence_factor(scene),
        _hour_factor(scene, evidence.time_zone.key),
        _dwell_factor(scene),
        _repeat_factor(scene, past),
    )
    score = sum(factor.points for factor in factors)
    summary = summarise(scene, evidence.camera_name, past)
    return ReasonerResult(NAME, score, summary, factors, rules_score=score)


def _class_factor(scene: Scene) -> ScoreFactor:
    main = scene.main
    others = ", ".join(other.label for other in scene.classes[1:4])
    text = f"{main.label}, the weightiest of what was seen (also {others})" if others else main.label
    return ScoreFactor("class", main.points, text, detection_ids(main.detections))


def _count_factor(scene: Scene) -> ScoreFactor:
    main = scene.main
    points = points_at(main.kind.count, main.count)
    return ScoreFactor("count", points, f"{counted(main)} in one photo", detection_ids(main.in_one_photo))


def _confidence_factor(scene: Scene) -> ScoreFactor:
    best = scene.main.detections[0]
    text = f"the detector is {best.score:.0%} sure of the best {best.label}"
    return ScoreFactor("confidence", points_at(CONFIDENCE, best.score), text, (best.id,))


def _hour_factor(scene: Scene, time_zone: str) -> ScoreFactor:
    main, part = scene.main, scene.part_of_day
    text = f"first seen at {scene.local_time:%H:%M} ({time_zone}): {part}"
    return ScoreFactor("hour", hour_points(main.kind, part), text, (main.first.id,))


def _dwell_factor(scene: Scene) -> ScoreFactor:
    main = scene.main
    points = points_at(main.kind.dwell, main.seconds)
    text = f"seen over {duration(main.seconds)}" if main.seconds >= 1 else "seen for a moment"
    return ScoreFactor("dwell", points, text, detection_ids((main.first, main.last)))


def _repeat_factor(scene: Scene, past: int) -> ScoreFactor:
    points = points_at(scene.main.kind.repeat, past)
    return ScoreFactor("repeat", points, past_events(past) if past else "nothing here in the hour before")
