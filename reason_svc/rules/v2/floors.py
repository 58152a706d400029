"""Floors: what an event is at least, whatever speaks for its being harmless. Pure.

No habit, expected visit, presence, note, name or faintness lowers a floor. Only a person whom somebody has
named is not an unidentified person.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mesh.scene.doubts import TALL
from mesh.scene.places import ZoneKind
from reason_svc.evidence import EvidenceDetection
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.subject import EventScene, Subject, height_of

STAY_SECONDS = 20.0
WATER_SECONDS = 5.0
# Somebody in the water appears small; somebody who watches is at least that much taller.
SMALL, TALLER = 0.4, 1.4
# A bear is beside a person within this many of the person's heights.
BESIDE_HEIGHTS = 3.0


@dataclass(frozen=True, slots=True)
class Floor:
    score: int
    text: str
    subject: Subject


def unidentified_at_night_or_away(subject: Subject, scene: EventScene) -> Floor | None:
    if not (scene.dark or scene.away) or not _is_unidentified(subject):
        return None
    place = subject.was_in(ZoneKind.ENTRY, ZoneKind.WINDOW, ZoneKind.PRIVATE, ZoneKind.INSIDE)
    if not place and subject.height <= TALL:
        return None
    when = "in the dark" if scene.dark else "while nobody was at home"
    where = "on the ground of the house" if place else "close to the camera"
    return Floor(weights.MEDIUM, f"Somebody unidentified was {where} {when}.", subject)


def stays_while_away(subject: Subject, scene: EventScene) -> Floor | None:
    if not scene.away or not _is_unidentified(subject):
        return None
    kinds = (ZoneKind.WINDOW, ZoneKind.INSIDE, *((ZoneKind.ENTRY,) if scene.dark else ()))
    if sum(subject.seconds[kind] for kind in kinds) < STAY_SECONDS:
        return None
    return Floor(weights.HIGH, "Somebody unidentified stayed at the house while nobody was at home.", subject)


def enters_while_away(subject: Subject, scene: EventScene) -> Floor | None:
    if not scene.away or not _is_unidentified(subject) or not subject.came_from_public_onto_private:
        return None
    text = "Somebody unidentified came from public onto private ground while nobody was at home."
    return Floor(weights.HIGH, text, subject)


def unwelcome(subject: Subject, _: EventScene) -> Floor | None:
    return (
        Floor(weights.HIGH, "Somebody was here who must not come.", subject) if subject.is_unwelcome else None
    )


def lies(subject: Subject, _: EventScene) -> Floor | None:
    return Floor(weights.HIGH, "A person lies on the ground.", subject) if subject.lying() else None


def several_inside_while_away(subject: Subject, scene: EventScene) -> Floor | None:
    if not scene.away or not _is_unidentified(subject) or not subject.was_in(ZoneKind.INSIDE):
        return None
    others = [one for one in scene.people if _is_unidentified(one) and one.was_in(ZoneKind.INSIDE)]
    if not any(subject.is_seen_beside(other) for other in others):
        return None
    return Floor(weights.CRITICAL, "Several people were inside while nobody was at home.", subject)


def bear_beside_a_person(subject: Subject, scene: EventScene) -> Floor | None:
    if subject.label != "bear" or not any(is_beside(subject, person) for person in scene.people):
        return None
    return Floor(weights.CRITICAL, "A bear was beside a person.", subject)


def small_and_alone_in_water(subject: Subject, scene: EventScene) -> Floor | None:
    seconds = seconds_alone_in_water(subject, scene)
    if seconds is None or seconds < WATER_SECONDS:
        return None
    return Floor(weights.CRITICAL, "Somebody small was alone in the water.", subject)


def floors_of(scene: EventScene) -> Iterator[Floor]:
    for subject in scene.subjects:
        for floor in FLOORS:
            if found := floor(subject, scene):
                yield found


def seconds_alone_in_water(subject: Subject, scene: EventScene) -> float | None:
    """How long somebody small was in the water while nobody taller was in the picture. None if somebody
    taller was there all the time, but for a moment."""
    visits = [visit for visit in subject.track.scene.visits if visit.place.kind is ZoneKind.WATER]
    if not subject.is_person or not visits:
        return None
    in_water = [one for one in subject.detections if any(v.start <= one.captured_at <= v.end for v in visits)]
    height = height_of(in_water or subject.detections)
    if height >= SMALL:
        return None
    stays = alone = [(visit.start, visit.end) for visit in visits]
    for other in scene.people:
        if other is not subject and other.height > TALLER * height:
            alone = [rest for stay in alone for rest in _without(stay, other)]
    seconds = sum((end - start).total_seconds() for start, end in alone)
    return seconds if alone == stays or seconds >= WATER_SECONDS else None


def _without(stay: tuple[datetime, datetime], other: Subject) -> Sequence[tuple[datetime, datetime]]:
    """The parts of a stay before the other is seen first, and after he is seen last."""
    start, end = stay
    if end < other.started_at or other.ended_at < start:
        return [stay]
    parts = ((start, other.started_at), (other.ended_at, end))
    return [(begins, ends) for begins, ends in parts if begins < ends]


def is_beside(animal: Subject, person: Subject) -> bool:
    """Whether one frame shows both, less than BESIDE_HEIGHTS of the person's height apart."""
    people = {(found.captured_at, found.media_id): found for found in person.detections}
    return any(
        _near(found, other)
        for found in animal.detections
        if (other := people.get((found.captured_at, found.media_id)))
    )


def _near(one: EvidenceDetection, person: EvidenceDetection) -> bool:
    if not one.box or not person.box:
        return True
    gap_x = max(one.box[0] - person.box[2], person.box[0] - one.box[2], 0)
    gap_y = max(one.box[1] - person.box[3], person.box[1] - one.box[3], 0)
    return max(gap_x, gap_y) <= BESIDE_HEIGHTS * (person.box[3] - person.box[1])


def _is_unidentified(subject: Subject) -> bool:
    return subject.is_person and not subject.is_known


FLOORS: tuple[Callable[[Subject, EventScene], Floor | None], ...] = (
    unidentified_at_night_or_away, stays_while_away, enters_while_away, unwelcome, lies,
    several_inside_while_away, bear_beside_a_person, small_and_alone_in_water,
)  # fmt: skip
