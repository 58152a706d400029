"""Proposes zones from where people and vehicles touched the ground. Pure, and the same for the same input.

Each foot point gets the kind of place that the camera's ground gives it, or that of a drive if nothing is
said of the ground: who appears small is beyond the ground of the house. Where people stopped again and again
there is a door. The points of each kind are counted in a grid; cells that are near form a zone, whose polygon
is their convex hull. A place that holds too little is left out: nobody wants a zone for one visit.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from mesh.scene.doubts import is_tall, is_too_large
from mesh.scene.geometry import Point, Polygon, foot_point
from mesh.scene.links import SeenObject, link
from mesh.scene.places import GROUND_ID, Ground, SceneZone, ZoneKind, place_of
from mesh.scene.tracks import VEHICLES

PERSON = "person"
# The labels whose foot points count.
LABELS = (PERSON, *sorted(VEHICLES))

COLUMNS, ROWS = 24, 16
# Photos come seconds apart, so that the cells of one place need not touch: how many columns and rows they may
# be apart.
REACH = 2
MOST_SUGGESTIONS = 8
# What a cell and a zone must hold.
LEAST_IN_CELL, LEAST_IN_ZONE, LEAST_EVENTS = 2, 10, 3
# Somebody stops who stays for so long within this share of his height.
STOP_SECONDS, STOP_SHARE = 8.0, 0.25
# Where people stop without a door.
WITHOUT_DOORS = (Ground.GARDEN, Ground.INSIDE)

# In this order, because the first zone that contains a foot point counts: the more private one. With the name
# of each, and what its things have in common.
KINDS = {
    ZoneKind.ENTRY: ("Door", "people come close to the camera there, or stop there"),
    ZoneKind.INSIDE: ("Room", "it is within the house"),
    ZoneKind.PRIVATE: ("Grounds", "they appear large there: they are on the ground of the house"),
    ZoneKind.APPROACH: ("Path", "they appear neither small nor large there: on the way to the door"),
    ZoneKind.PUBLIC: ("Street", "they appear small there: beyond the ground of the house"),
}
PRIVATE_NAMES = {Ground.DRIVE: "Drive", Ground.GARDEN: "Garden"}

Cell = tuple[int, int]  # column, row


class Suggestion(NamedTuple):
    """A zone, why it is proposed, and how many detections of people and vehicles, and events, were in it."""

    zone: SceneZone
    why: str
    people: int
    vehicles: int
    events: int


class _Spot(NamedTuple):
    """Where something touched the ground."""

    foot: Point
    is_person: bool
    event: UUID
    kind: ZoneKind
    stopped: bool

    @property
    def cell(self) -> Cell:
        x, y = self.foot
        return min(max(int(x * COLUMNS), 0), COLUMNS - 1), min(max(int(y * ROWS), 0), ROWS - 1)


def suggest_zones(
    events: Iterable[tuple[UUID, Sequence[SeenObject]]], zones: Sequence[SceneZone], ground: Ground | None
) -> list[Suggestion]:
    """Proposals for what lies outside the zones that there are. `events` are events with their people and
    vehicles."""
    listed = list(events)
    spots = [spot for id, seen in listed for spot in _spots(id, seen, zones, ground)]
    tall = [
        foot_point(one.box) for _, seen in listed for one in seen if one.label == PERSON and is_tall(one.box)
    ]
    stops = [spot._replace(kind=ZoneKind.ENTRY) for spot in spots if spot.stopped]
    doors = [door for door in _places(stops) if _is_enough(door)]
    taken = {(spot.foot, spot.event) for door in doors for spot in door}
    by_kind: defaultdict[ZoneKind, list[_Spot]] = defaultdict(list)
    for spot in spots:
        if (spot.foot, spot.event) not in taken:
            by_kind[spot.kind].append(spot)
    for door in doors:
        by_kind[ZoneKind.ENTRY] += door
    ids, suggestions = {zone.id for zone in zones}, list[Suggestion]()
    for kind in KINDS:
        for place in _places(by_kind[kind]):
            area = _outline({spot.cell for spot in place})
            doubtful = kind is ZoneKind.PUBLIC and any(map(area.contains, tall))
            if _is_enough(place) and not doubtful:
                suggestion = _suggestion(kind, place, area, ground, ids)
                if not is_too_large(suggestion.zone):
                    suggestions.append(suggestion)
                    ids.add(suggestion.zone.id)
    return suggestions[:MOST_SUGGESTIONS]


def _spots(
    event: UUID, seen: Sequence[SeenObject], zones: Sequence[SceneZone], ground: Ground | None
) -> list[_Spot]:
    """Of the people and vehicles outside the zones."""
    stopped = set[int]() if ground in WITHOUT_DOORS else _stops(seen)
    spots = []
    for index, one in enumerate(seen):
        place = place_of(one.box, zones, ground or Ground.DRIVE)
        if one.label in LABELS and place is not None and place.zone_id == GROUND_ID:
            is_stop = index in stopped and place.kind is not ZoneKind.PUBLIC
            spots.append(_Spot(foot_point(one.box), one.label == PERSON, event, place.kind, is_stop))
    return spots


def _stops(seen: Sequence[SeenObject]) -> set[int]:
    """The indexes of people who stay where they are."""
    stops: set[int] = set()
    for track in link(seen):
        start = 0
        for end in range(1, len(track) + 1):
            if end == len(track) or not _is_near(seen[track[start]], seen[track[end]]):
                stay = track[start:end]
                seconds = (seen[stay[-1]].captured_at - seen[stay[0]].captured_at).total_seconds()
                if seen[stay[0]].label == PERSON and seconds >= STOP_SECONDS:
                    stops.update(stay)
                start = end
    return stops


def _is_near(before: SeenObject, after: SeenObject) -> bool:
    (from_x, from_y), (to_x, to_y) = foot_point(before.box), foot_point(after.box)
    reach = STOP_SHARE * (before.box[3] - before.box[1])
    return abs(to_x - from_x) <= reach and abs(to_y - from_y) <= reach


def _places(spots: Sequence[_Spot]) -> list[list[_Spot]]:
    """The spots of cells that are near each other; the fullest place first."""
    cells: defaultdict[Cell, list[_Spot]] = defaultdict(list)
    for spot in spots:
        cells[spot.cell].append(spot)
    rest = {cell for cell, held in cells.items() if len(held) >= LEAST_IN_CELL}
    places: list[list[_Spot]] = []
    for first in sorted(rest):
        if first not in rest:
            continue
        rest.remove(first)
        found, waiting = [first], [first]
        while waiting:
            column, row = waiting.pop()
            reach = range(-REACH, REACH + 1)
            near = [(column + x, row + y) for x in reach for y in reach]
            for cell in near:
                if cell in rest:
                    rest.remove(cell)
                    found.append(cell)
                    waiting.append(cell)
        places.append([spot for cell in sorted(found) for spot in cells[cell]])
    return sorted(places, key=len, reverse=True)


def _is_enough(place: Sequence[_Spot]) -> bool:
    return len(place) >= LEAST_IN_ZONE and len({spot.event for spot in place}) >= LEAST_EVENTS


def _outline(cells: Iterable[Cell]) -> Polygon:
    """The convex hull of the cells, by Andrew's monotone chain, in whole numbers of the grid."""
    corners = sorted({(column + x, row + y) for column, row in cells for x in (0, 1) for y in (0, 1)})
    hull = [*_chain(corners)[:-1], *_chain(corners[::-1])[:-1]]
    return Polygon(tuple((column / COLUMNS, row / ROWS) for column, row in hull))


def _chain(points: Sequence[Cell]) -> list[Cell]:
    chain: list[Cell] = []
    for x, y in points:
        while len(chain) > 1:
            (first_x, first_y), (last_x, last_y) = chain[-2:]
            if (last_x - first_x) * (y - first_y) - (last_y - first_y) * (x - first_x) > 0:
                break
            chain.pop()
        chain.append((x, y))
    return chain


def _suggestion(
    kind: ZoneKind, place: Sequence[_Spot], area: Polygon, ground: Ground | None, ids: set[str]
) -> Suggestion:
    name, reason = KINDS[kind]
    if kind is ZoneKind.PRIVATE and ground:
        name = PRIVATE_NAMES.get(ground, name)
    number = next(n for n in range(1, len(ids) + 2) if _id(name, n) not in ids)
    people = sum(spot.is_person for spot in place)
    vehicles, events = len(place) - people, len({spot.event for spot in place})
    why = f"{people} detections of people and {vehicles} of vehicles in {events} events: {reason}."
    return Suggestion(SceneZone(_id(name, number), name, kind, area), why, people, vehicles, events)


def _id(name: str, number: int) -> str:
    return name.lower() if number == 1 else f"{name.lower()}-{number}"
