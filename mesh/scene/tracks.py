"""Links the detections of one event into tracks, and says where each track was. Pure.

The result depends on the detections only, not on their order: plain floats, compared in a fixed order. A
change that gives other tracks needs another VERSION, because frozen evidence names it.

An event whose media have one frame each has the same tracks by all versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from mesh.scene.geometry import Point, foot_point
from mesh.scene.links import SeenObject, link
from mesh.scene.media_links import CLOCK_SECONDS, LinkedObjects, link_media
from mesh.scene.places import Ground, Place, SceneLine, SceneZone, ZoneKind, place_of

VERSION = "tracks/v2"
# Links all frames as those of one camera's photos.
FIRST_VERSION = "tracks/v1"

VEHICLES = frozenset(("bicycle", "boat", "bus", "car", "motorcycle", "train", "truck"))

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
    version: str = VERSION,
    clock_seconds: float = CLOCK_SECONDS,
) -> list[SceneTrack]:
    """The tracks in order of their first frame; within one frame the largest object first. `clock_seconds` is
    by how much the clocks of two media may differ."""
    if version == FIRST_VERSION:
        linked = [LinkedObjects(indexes, indexes) for indexes in link(objects)]
    else:
        linked = link_media(objects, clock_seconds)
    tracks = []
    for each in linked:
        path = [objects[index] for index in each.path]
        tracks.append(
            SceneTrack(
                label=path[0].label,
                indexes=tuple(each.indexes),
                stationary=is_stationary(path),
                visits=visits_of(path, zones, ground),
                crossings=crossings_of(path, lines),
            )
        )
    return tracks


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
