"""An event told in words and numbers: as finely as fits, but always whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from reason_svc.evidence import Evidence, Sighting
from reason_svc.fence import fenced, harmless
from reason_svc.scene import Scene, read_scene
from reason_svc.verdict import MOST_DETECTION_IDS

MOST_NAME, MOST_LABEL, MOST_TIMES = 64, 40, 10
MOST_LINES = 48
FEWER_LABELS = (16, 6, 2, 1)

# A photo, or a frame of a clip, by its number: from 1, in the order in which they were taken.
Photos = dict[tuple[datetime, str], int]


@dataclass(frozen=True, slots=True)
class Group:
    """Detections that share a line; there is at least one."""

    label: str
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """`text` is fenced and numbers its lines from 1: line n tells of `groups[n - 1]`."""

    text: str
    groups: tuple[Group, ...]

    def ids(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """The detections that these lines tell of, at most 16 and some of each; unknown numbers name none."""
        groups = [self.groups[n - 1] for n in numbers if 1 <= n <= len(self.groups)]
        share = max(1, MOST_DETECTION_IDS // max(1, len(groups)))
        found = (sighting.id for group in groups for sighting in group.sightings[:share])
        return tuple(dict.fromkeys(found))[:MOST_DETECTION_IDS]


def accounts(evidence: Evidence) -> list[Account]:
    """The same event told ever more shortly: by detection, by label and photo, by label, by fewer and fewer
    labels. Each tells of every detection. The first is the finest that is not too long to read."""
    scene = read_scene(evidence)
    photos = _photos(evidence)
    tellings = list(dict.fromkeys(_tellings(scene, photos)))
    short = [groups for groups in tellings if len(groups) <= MOST_LINES] or tellings[-1:]
    return [Account(_text(evidence, scene, photos, groups), groups) for groups in short]


def _photo(sighting: Sighting) -> tuple[datetime, str]:
    return sighting.captured_at, sighting.media_id


def _photos(evidence: Evidence) -> Photos:
    return {photo: number for number, photo in enumerate(sorted(set(map(_photo, evidence.sightings))), 1)}


def _tellings(scene: Scene, photos: Photos) -> Iterator[tuple[Group, ...]]:
    def place(sighting: Sighting) -> tuple[int, str]:
        return photos[_photo(sighting)], sighting.label

    everything = sorted(
        (sighting for thing in scene.things for sighting in thing.sightings),
        key=lambda s: (*place(s), -s.score, s.id),
    )
    yield tuple(Group(sighting.label, (sighting,)) for sighting in everything)
    yield tuple(Group(label, tuple(same)) for (_, label), same in groupby(everything, key=place))
    labels = tuple(Group(thing.label, thing.sightings) for thing in scene.things)
    yield labels
    for most in FEWER_LABELS:
        if most < len(labels):
            rest = labels[most - 1 :]
            together = (sighting for group in rest for sighting in group.sightings)
            best_first = sorted(together, key=lambda s: (-s.score, s.captured_at, s.id))
            yield (*labels[: most - 1], Group(f"other things ({len(rest)} kinds)", tuple(best_first)))


def _text(evidence: Evidence, scene: Scene, photos: Photos, groups: tuple[Group, ...]) -> str:
    began = min(sighting.captured_at for sighting in evidence.sightings)
    ended = max(sighting.captured_at for sighting in evidence.sightings)
    local = began.astimezone(evidence.zone)
    told = "" if len(groups) == len(evidence.sightings) else f", summarised in {len(groups)} lines"
    lines = [
        f"camera: {harmless(evidence.place, MOST_NAME) or 'unnamed'}",
        f"began: {local:%A %Y-%m-%d %H:%M:%S} local time, {scene.part_of_day}",
        f"lasted: {(ended - began).total_seconds():.1f} s",
        f"photos: {len(photos)}",
        f"events of this camera in the hour before: {_before(evidence)}",
        f"detections: {len(evidence.sightings)}{told}",
    ]
    for number, group in enumerate(groups, 1):
        lines.append(f"{number}. {_line(group, photos, began.timestamp())}")
    return fenced(lines)


def _before(evidence: Evidence) -> str:
    times = sorted(evidence.history, reverse=True)[:MOST_TIMES]
    clock = ", ".join(f"{at.astimezone(evidence.zone):%H:%M}" for at in times)
    return f"{len(evidence.history)}, last at {clock}" if times else "none"


def _line(group: Group, photos: Photos, began: float) -> str:
    found = group.sightings
    label = harmless(group.label, MOST_LABEL) or "something"
    shown = sorted({photos[_photo(sighting)] for sighting in found})
    times = [sighting.captured_at.timestamp() - began for sighting in found]
    scores = [sighting.score for sighting in found]
    if len(found) == 1:
        return f"{label}, photo {shown[0]}, at {times[0]:.1f} s, certainty {scores[0]:.0%}"
    where = f"photo {shown[0]}" if len(shown) == 1 else f"{len(shown)} photos ({shown[0]} to {shown[-1]})"
    most = max(sum(photos[_photo(s)] == number for s in found) for number in shown)
    together = f", at most {most} in one photo" if len(shown) > 1 else ""
    when = f"at {min(times):.1f} s" if len(shown) == 1 else f"from {min(times):.1f} s to {max(times):.1f} s"
    certainty = f"certainty {min(scores):.0%} to {max(scores):.0%}"
    return f"{len(found)} times {label}, {where}{together}, {when}, {certainty}"
