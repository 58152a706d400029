"""Links detections within each media first, and then what several media show of one thing. Pure.

A camera may send a photo and a clip of the same moment, whose clocks differ by seconds. Linked by time alone,
such frames would show a thing that jumps back and forth, or two things. Within one media the clock is one.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from mesh.scene.links import LINK_SECONDS, SeenObject, distance, link, object_order

# By how much the clocks of two media may differ, unless another number is given.
CLOCK_SECONDS = 3.0
# At a time that may be the same by both clocks, a thing is where the other media shows it, give or take what
# it can move in this time: the frames of a clip are so far apart, and clocks may differ by a little more.
SEAM_SECONDS = 1.0
# How many objects of the shorter one of two parts are compared with those of the other.
COMPARED = 12


@dataclass(frozen=True, slots=True)
class LinkedObjects:
    """The places of one thing's objects, in order of capture. `path` are those that say how it moved: where
    several media show the same time, those of one of them."""

    indexes: list[int]
    path: list[int]


@dataclass(slots=True)
class _Thing:
    """What several media show of one thing: its objects in order of capture, and the places of the objects by
    media."""

    objects: list[SeenObject]
    parts: dict[str, list[int]]

    def add(self, media: str, part: list[int], objects: Sequence[SeenObject]) -> None:
        self.parts[media] = part
        self.objects = sorted([*self.objects, *(objects[index] for index in part)], key=_order)


def link_media(objects: Sequence[SeenObject], clock_seconds: float) -> list[LinkedObjects]:
    """Every object is in exactly one of the results, which are in order of their first frame."""
    by_media: defaultdict[str, list[int]] = defaultdict(list)
    for index, seen in enumerate(objects):
        by_media[seen.media].append(index)
    if all(_is_one_frame([objects[index] for index in found]) for found in by_media.values()):
        return [LinkedObjects(indexes, indexes) for indexes in link(objects)]
    things: list[_Thing] = []
    begun = {media: min(objects[index].captured_at for index in found) for media, found in by_media.items()}
    for media in sorted(by_media, key=lambda media: (begun[media], media)):
        found = by_media[media]
        parts = [[found[place] for place in part] for part in link([objects[index] for index in found])]
        rest = _join(things, media, parts, objects, clock_seconds)
        things += [_Thing([objects[index] for index in part], {media: part}) for part in rest]
    linked = [_linked(thing, objects, timedelta(seconds=clock_seconds)) for thing in things]
    return sorted(linked, key=lambda each: _order(objects[each.indexes[0]]))


def _is_one_frame(found: Sequence[SeenObject]) -> bool:
    return all(seen.captured_at == found[0].captured_at for seen in found)


def _join(
    things: Sequence[_Thing],
    media: str,
    parts: list[list[int]],
    objects: Sequence[SeenObject],
    clock_seconds: float,
) -> list[list[int]]:
    """Adds the parts of a media to the things that they show, the closest first, and returns the others. Two
    parts of one media are two things."""
    shown = [[objects[index] for index in part] for part in parts]
    links = sorted(
        (cost, number, place)
        for number, thing in enumerate(things)
        for place, part in enumerate(shown)
        if (cost := _cost(thing.objects, part, clock_seconds)) is not None
    )
    taken: set[int] = set()
    for _, number, place in links:
        if place not in taken and media not in things[number].parts:
            things[number].add(media, parts[place], objects)
            taken.add(place)
    return [part for place, part in enumerate(parts) if place not in taken]


def _cost(thing: Sequence[SeenObject], part: Sequence[SeenObject], clock_seconds: float) -> float | None:
    """How far apart they are, in sizes; None if they cannot be one thing. Where their times are as close as
    the clocks allow, they are at the same place at some time; otherwise one follows the other."""
    if thing[0].label != part[0].label:
        return None
    shorter, longer = sorted((thing, part), key=len)
    times, clock = [seen.captured_at for seen in longer], timedelta(seconds=clock_seconds)
    costs = []
    for seen in _spread(shorter):
        near = longer[
            bisect_left(times, seen.captured_at - clock) : bisect_right(times, seen.captured_at + clock)
        ]
        costs += [distance(seen, other, SEAM_SECONDS) for other in near]
    if costs:
        return min((cost for cost in costs if cost is not None), default=None)
    return _cost_in_turn(thing, part)


def _cost_in_turn(thing: Sequence[SeenObject], part: Sequence[SeenObject]) -> float | None:
    """Of the part after the last object of the thing before it, or else before its first one."""
    place = bisect_left([seen.captured_at for seen in thing], part[0].captured_at)
    before, after = (thing[place - 1], part[0]) if place else (part[-1], thing[0])
    seconds = (after.captured_at - before.captured_at).total_seconds()
    return distance(before, after, seconds) if 0 < seconds <= LINK_SECONDS else None


def _spread(seen: Sequence[SeenObject]) -> Sequence[SeenObject]:
    """At most COMPARED of these, the first and the last included."""
    if len(seen) <= COMPARED:
        return seen
    return [seen[place * (len(seen) - 1) // (COMPARED - 1)] for place in range(COMPARED)]


def _linked(thing: _Thing, objects: Sequence[SeenObject], clock: timedelta) -> LinkedObjects:
    """The path follows the media that show most of the thing, and others where those show nothing. A single
    frame counts as of the same time if the clocks allow it."""
    path: list[int] = []
    covered: list[tuple[SeenObject, SeenObject]] = []
    for media in sorted(thing.parts, key=lambda media: (-len(thing.parts[media]), media)):
        part = thing.parts[media]
        margin = clock if len(part) == 1 else timedelta()
        path += [
            index
            for index in part
            if not any(
                first.captured_at - margin <= objects[index].captured_at <= last.captured_at + margin
                for first, last in covered
            )
        ]
        covered.append((objects[part[0]], objects[part[-1]]))
    every = [index for part in thing.parts.values() for index in part]
    return LinkedObjects(
        sorted(every, key=lambda index: _order(objects[index])),
        sorted(path, key=lambda index: _order(objects[index])),
    )


def _order(seen: SeenObject) -> tuple[object, ...]:
    """Independent of the order in which the detections came."""
    return seen.captured_at, seen.media, *object_order(seen)
