"""What the sightings of one event add up to: the things seen, how many, for how long, when."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from reason_svc.evidence import Evidence, Sighting
from reason_svc.verdict import MOST_DETECTION_IDS
from reason_svc.weights import CLASSES, OTHER, Kind, part_of_day


@dataclass(frozen=True, slots=True)
class Thing:
    """All sightings of one class, best first. `together` are those of the photo that shows most of them: the
    same person in two photos is one person."""

    label: str
    kind: Kind
    points: int
    sightings: tuple[Sighting, ...]
    together: tuple[Sighting, ...]

    @property
    def count(self) -> int:
        return len(self.together)

    @property
    def began(self) -> Sighting:
        return min(self.sightings, key=lambda s: (s.captured_at, s.id))

    @property
    def ended(self) -> Sighting:
        return max(self.sightings, key=lambda s: (s.captured_at, s.id))

    @property
    def seconds(self) -> float:
        """From the first photo to the last."""
        return (self.ended.captured_at - self.began.captured_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Scene:
    """`things`, the weightiest first. `at` is the local time at which that one was first seen."""

    things: tuple[Thing, ...]
    at: datetime

    @property
    def main(self) -> Thing:
        return self.things[0]

    @property
    def part_of_day(self) -> str:
        return part_of_day(self.at.time())


def read_scene(evidence: Evidence) -> Scene:
    """The same for every order of the sightings."""
    by_label: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in evidence.sightings:
        by_label[sighting.label].append(sighting)
    things = sorted(
        (_thing(label, sightings) for label, sightings in by_label.items()),
        key=lambda thing: (-thing.points, thing.label),
    )
    return Scene(tuple(things), things[0].began.captured_at.astimezone(evidence.zone))


def ids(sightings: tuple[Sighting, ...]) -> tuple[str, ...]:
    """Of the first of them, each once: what a factor rests on."""
    return tuple(dict.fromkeys(sighting.id for sighting in sightings))[:MOST_DETECTION_IDS]


def _thing(label: str, sightings: list[Sighting]) -> Thing:
    best_first = sorted(sightings, key=lambda s: (-s.score, s.captured_at, s.media_id, s.id))
    photos: dict[tuple[str, datetime], list[Sighting]] = defaultdict(list)
    for sighting in best_first:
        photos[sighting.media_id, sighting.captured_at].append(sighting)
    _, together = min(photos.items(), key=lambda photo: (-len(photo[1]), photo[0][1], photo[0][0]))
    kind, points = CLASSES.get(label, OTHER)
    return Thing(label, kind, points, tuple(best_first), tuple(together))
