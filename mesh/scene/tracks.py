"""Links the detections of one event into tracks, and says where each track was. Pure.

The result depends on the detections only, not on their order: plain floats, compared in a fixed order. A
change that gives other tracks needs another VERSION, because frozen evidence names it.

Photos come seconds apart, so a track is what one thing can have done: between two frames something moves by
at most about one and a half of its own size a second, and keeps about its size. Of several possible links,
the shortest are made first. Two people who change places between two photos may change tracks; what the
tracks say about places, times and numbers stays right.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from math import hypot, log

from mesh.scene.geometry import Box, Point, foot_point
from mesh.scene.places import Ground, Place, SceneLine, SceneZone, ZoneKind, place_of

VERSION = "tracks/v1"

VEHICLES = frozenset(("bicycle", "boat", "bus", "car", "motorcycle", "train", "truck"))

# A link's longest time, and how far the foot point may move: in sizes of the thing, at once and for each
# second of at most MOVING_SECONDS.
LINK_SECONDS, MOVING_SECONDS = 30.0, 4.0
REACH, REACH_PER_SECOND = 0.6, 1.5
LEAST_SIZE = 0.03
# A box may grow or shrink by this factor between two frames.
MOST_GROWTH = 3.0
# A box that ends so close to the edge of the picture may be a part of its object.
EDGE = 0.01
# A vehicle is stationary if in at least STILL_SECONDS its foot point moves by less than this share of its
# width.
STILL_SECONDS, STILL_SHARE = 10.0, 0.25
# Boxes of two times that are so alike show the same vehicle, which stands there. A box that is moved by
# STILL_SHARE of its width is just so alike. Those that EfficientDet-Lite0 makes of a vehicle that does not
# move are at least 0.76 alike, in light from a third to more than usual.
SAME = 0.6


class Direction(IntEnum):
    """The numbers of lares.scene.v1.Direction."""

    INWARDS = 1
    OUTWARDS = 2


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One detection. `captured_at` is aware; `frame` tells the frames of one moment apart, as a media's
    id. `stands` means that the camera's earlier photos tell that this vehicle stood there before."""

    label: str
    score: float
    box: Box
    captured_at: datetime
    frame: str
    stands: bool = False


@dataclass(frozen=True, slots=True)
class ZoneVisit:
    """A stay in a place, from the first to the last frame that shows it."""

    place: Place
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class LineCrossing:
    """`time` is the capture time of the later frame."""

    line_id: str
    direction: Direction
    time: datetime


@dataclass(frozen=True, slots=True)
class SceneTrack:
    """One object over several frames. `indexes` are places in the event's detections, in order of capture."""

    label: str
    indexes: tuple[int, ...]
    stationary: bool
    visits: tuple[ZoneVisit, ...]
    crossings: tuple[LineCrossing, ...]


def derive_tracks(
    objects: Sequence[SeenObject],
    zones: Sequence[SceneZone],
    lines: Sequence[SceneLine],
    ground: Ground | None,
) -> list[SceneTrack]:
    """The tracks in order of their first frame; within one frame the largest object first."""
    linked = link(objects)
    return [
        SceneTrack(
            label=objects[indexes[0]].label,
            indexes=tuple(indexes),
            stationary=is_stationary([objects[index] for index in indexes]),
            visits=visits_of([objects[index] for index in indexes], zones, ground),
            crossings=crossings_of([objects[index] for index in indexes], lines),
        )
        for indexes in linked
    ]


def link(objects: Sequence[SeenObject]) -> list[list[int]]:
    """Returns for each track the indexes of its objects. Every object is in exactly one track."""
    frames: defaultdict[tuple[datetime, str], list[int]] = defaultdict(list)
    for index, seen in enumerate(objects):
        frames[seen.captured_at, seen.frame].append(index)
    tracks: list[list[int]] = []
    open_tracks: list[list[int]] = []
    for key in sorted(frames):
        moment = key[0]
        open_tracks = [
            track
            for track in open_tracks
            if (moment - objects[track[-1]].captured_at).total_seconds() <= LINK_SECONDS
        ]
        rest = _extend(open_tracks, sorted(frames[key], key=lambda index: _order(objects[index])), objects)
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


def _order(seen: SeenObject) -> tuple[str, float, Box, float]:
    """Independent of the order in which the detections came."""
    return seen.label, -_size(seen.box), seen.box, seen.score


def _cost(before: SeenObject, after: SeenObject) -> float | None:
    """How far apart two objects are, in sizes; None if they cannot be the same thing."""
    seconds = (after.captured_at - before.captured_at).total_seconds()
    if before.label != after.label or seconds <= 0:
        return None
    sizes = _size(before.box), _size(after.box)
    growth = sizes[1] / sizes[0]
    cut = _is_cut(before.box) or _is_cut(after.box)
    if not cut and not 1 / MOST_GROWTH <= growth <= MOST_GROWTH:
        return None
    size = max(sizes) if cut else min(sizes)
    (from_x, from_y), (to_x, to_y) = foot_point(before.box), foot_point(after.box)
    distance = hypot(to_x - from_x, to_y - from_y) / size
    if distance > REACH + REACH_PER_SECOND * min(seconds, MOVING_SECONDS):
        return None
    return distance + abs(log(growth))


def _size(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1], LEAST_SIZE)


def _is_cut(box: Box) -> bool:
    """Whether the edge of the picture cuts the object, so that its size is not known."""
    return min(box) < EDGE or max(box) > 1 - EDGE


def is_stationary(track: Sequence[SeenObject]) -> bool:
    """Whether a vehicle did not move. False for people and animals, and for what was seen too shortly, unless
    it is known to have stood there before."""
    first, last = track[0], track[-1]
    if first.label not in VEHICLES:
        return False
    if all(seen.stands for seen in track):
        return True
    if (last.captured_at - first.captured_at).total_seconds() < STILL_SECONDS:
        return False
    feet = [foot_point(seen.box) for seen in track]
    width = max(seen.box[2] - seen.box[0] for seen in track)
    return (
        _spread([x for x, _ in feet]) < STILL_SHARE * width
        and _spread([y for _, y in feet]) < STILL_SHARE * width
    )


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def visits_of(
    track: Sequence[SeenObject], zones: Sequence[SceneZone], ground: Ground | None
) -> tuple[ZoneVisit, ...]:
    """In order of time. The time between two frames in different places belongs to neither."""
    visits: list[ZoneVisit] = []
    last: Place | None = None
    for seen in track:
        place = place_of(seen.box, zones, ground)
        if place is not None:
            if place == last:
                visits[-1] = ZoneVisit(place, visits[-1].start, seen.captured_at)
            else:
                visits.append(ZoneVisit(place, seen.captured_at, seen.captured_at))
        last = place
    return tuple(visits)


def crossings_of(track: Sequence[SeenObject], lines: Sequence[SceneLine]) -> tuple[LineCrossing, ...]:
    """In order of time. A foot point on the line itself has not crossed it yet."""
    crossings: list[LineCrossing] = []
    for line in lines:
        before: Point | None = None  # the last foot point that was not on the line
        for seen in track:
            foot = foot_point(seen.box)
            side = line.segment.side(foot)
            if side == 0:
                continue
            if (
                before is not None
                and line.segment.side(before) * side < 0
                and line.segment.crosses(before, foot)
            ):
                direction = Direction.INWARDS if side > 0 else Direction.OUTWARDS
                crossings.append(LineCrossing(line.id, direction, seen.captured_at))
            before = foot
    return tuple(sorted(crossings, key=lambda crossing: (crossing.time, crossing.line_id)))


def kinds_visited(track: SceneTrack) -> frozenset[ZoneKind]:
    return frozenset(visit.place.kind for visit in track.visits)
