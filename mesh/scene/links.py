"""Links the detections of successive frames: which of them are one thing. Pure.

Photos come seconds apart, so a track is what one thing can have done: between two frames something moves by
at most about one and a half of its own size a second, and keeps about its size. Of several possible links,
the shortest are made first. Two people who change places between two photos may change tracks; what the
tracks say about places, times and numbers stays right.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import hypot, log

from mesh.scene.geometry import Box, foot_point

# A link's longest time, and how far the foot point may move: in sizes of the thing, at once and for each
# second of at most MOVING_SECONDS.
LINK_SECONDS, MOVING_SECONDS = 30.0, 4.0
REACH, REACH_PER_SECOND = 0.6, 1.5
LEAST_SIZE = 0.03
# A box may grow or shrink by this factor between two frames.
MOST_GROWTH = 3.0
# A box that ends so close to the edge of the picture may be a part of its object.
EDGE = 0.01


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One detection. `captured_at` is aware; `media` is the id of its media, which tells frames of one moment
    apart. `stands` means that the camera's earlier photos tell that this vehicle stood there before."""

    label: str
    score: float
    box: Box
    captured_at: datetime
    media: str
    stands: bool = False


def link(objects: Sequence[SeenObject]) -> list[list[int]]:
    """Returns for each track the indexes of its objects. Every object is in exactly one track."""
    frames: defaultdict[tuple[datetime, str], list[int]] = defaultdict(list)
    for index, seen in enumerate(objects):
        frames[seen.captured_at, seen.media].append(index)
    tracks: list[list[int]] = []
    open_tracks: list[list[int]] = []
    for key in sorted(frames):
        moment = key[0]
        open_tracks = [
            track
            for track in open_tracks
            if (moment - objects[track[-1]].captured_at).total_seconds() <= LINK_SECONDS
        ]
        rest = _extend(
            open_tracks, sorted(frames[key], key=lambda index: object_order(objects[index])), objects
        )
        new = [[index] for index in rest]
        tracks += new
        open_tracks += new
    return tracks


def _extend(tracks: list[list[int]], found: list[int], objects: Sequence[SeenObject]) -> list[int]:
    """Adds the objects of one frame to the tracks that they may continue. Returns the others."""
    links = sorted(
        (cost, number, place)
        for number, track in enumerate(tracks)
        for place, index in enumerate(found)
        if (cost := _cost(objects[track[-1]], objects[index])) is not None
    )
    continued: set[int] = set()
    taken: set[int] = set()
    for _, number, place in links:
        if number not in continued and place not in taken:
            continued.add(number)
            taken.add(place)
            tracks[number].append(found[place])
    return [index for place, index in enumerate(found) if place not in taken]


def object_order(seen: SeenObject) -> tuple[str, float, Box, float]:
    """Independent of the order in which the detections came."""
    return seen.label, -_size(seen.box), seen.box, seen.score


def _cost(before: SeenObject, after: SeenObject) -> float | None:
    """How far apart two objects are, in sizes; None if they cannot be the same thing."""
    seconds = (after.captured_at - before.captured_at).total_seconds()
    return distance(before, after, seconds) if seconds > 0 else None


def distance(before: SeenObject, after: SeenObject, seconds: float) -> float | None:
    """How far apart two objects are, in sizes; None if they cannot be one thing, so many seconds later."""
    if before.label != after.label:
        return None
    sizes = _size(before.box), _size(after.box)
    growth = sizes[1] / sizes[0]
    cut = _is_cut(before.box) or _is_cut(after.box)
    if not cut and not 1 / MOST_GROWTH <= growth <= MOST_GROWTH:
        return None
    size = max(sizes) if cut else min(sizes)
    (from_x, from_y), (to_x, to_y) = foot_point(before.box), foot_point(after.box)
    moved = hypot(to_x - from_x, to_y - from_y) / size
    if moved > REACH + REACH_PER_SECOND * min(seconds, MOVING_SECONDS):
        return None
    return moved + abs(log(growth))


def _size(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1], LEAST_SIZE)


def _is_cut(box: Box) -> bool:
    """Whether the edge of the picture cuts the object, so that its size is not known."""
    return min(box) < EDGE or max(box) > 1 - EDGE
