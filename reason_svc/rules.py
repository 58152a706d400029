"""The rules: a score that anybody can check by adding up. Pure and deterministic."""

from datetime import UTC, datetime

from mesh.problems import Invalid
from reason_svc.evidence import Evidence
from reason_svc.reasoner import UNKNOWN_MODEL, UNKNOWN_PROMPT, Report, State, Wish
from reason_svc.scene import Scene, ids, read_scene
from reason_svc.summary import before, counted, lasting, summarise
from reason_svc.verdict import Factor, Verdict
from reason_svc.weights import CONFIDENCE, hour_points, points_at

NAME = "rules/v1"


class Rules:
    """A Reasoner. One factor of each name, always; those that add nothing say so."""

    name = NAME
    slots = 64  # they judge faster than they could wait

    def __init__(self) -> None:
        self._since = datetime.now(UTC)

    async def judge(self, evidence: Evidence, wish: Wish) -> Verdict:
        if wish.model not in ("", NAME):
            raise Invalid(f"there is no model {wish.model!r}: {NAME} judge here", UNKNOWN_MODEL)
        if wish.prompt:
            raise Invalid("rules have no prompt", UNKNOWN_PROMPT)
        return judge(evidence)

    def report(self) -> Report:
        return Report(State.READY, self._since, models=(NAME,))


def judge(evidence: Evidence) -> Verdict:
    """The weightiest class decides; the sum of the points is the score, 0..100 by the table."""
    scene = read_scene(evidence)
    past = len(evidence.history)
    factors = (
        _class(scene),
        _count(scene),
        _confidence(scene),
        _hour(scene, evidence.zone.key),
        _dwell(scene),
        _repeat(scene, past),
    )
    score = sum(factor.points for factor in factors)
    return Verdict(NAME, score, summarise(scene, evidence.place, past), factors, rules_score=score)


def _class(scene: Scene) -> Factor:
    main = scene.main
    others = ", ".join(thing.label for thing in scene.things[1:4])
    text = f"{main.label}, the weightiest of what was seen (also {others})" if others else main.label
    return Factor("class", main.points, text, ids(main.sightings))


def _count(scene: Scene) -> Factor:
    main = scene.main
    points = points_at(main.kind.count, main.count)
    return Factor("count", points, f"{counted(main)} in one photo", ids(main.together))


def _confidence(scene: Scene) -> Factor:
    best = scene.main.sightings[0]
    text = f"the detector is {best.score:.0%} sure of the best {best.label}"
    return Factor("confidence", points_at(CONFIDENCE, best.score), text, (best.id,))


def _hour(scene: Scene, zone: str) -> Factor:
    main, part = scene.main, scene.part_of_day
    text = f"first seen at {scene.at:%H:%M} ({zone}): {part}"
    return Factor("hour", hour_points(main.kind, part), text, (main.began.id,))


def _dwell(scene: Scene) -> Factor:
    main = scene.main
    points = points_at(main.kind.dwell, main.seconds)
    ends = ids((main.began, main.ended))
    text = f"seen over {lasting(main.seconds)}" if main.seconds >= 1 else "seen for a moment"
    return Factor("dwell", points, text, ends)


def _repeat(scene: Scene, past: int) -> Factor:
    points = points_at(scene.main.kind.repeat, past)
    return Factor("repeat", points, before(past) if past else "nothing here in the hour before")
