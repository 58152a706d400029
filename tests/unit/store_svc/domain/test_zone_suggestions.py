"""Zones that are proposed for synthetic pictures of a street, a door and a garden."""

import random
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.doubts import is_too_large
from mesh.scene.geometry import Point, Polygon
from mesh.scene.links import SeenObject
from mesh.scene.messages import zone_message
from mesh.scene.places import Ground, SceneZone, ZoneKind
from store_svc.domain.camera_scene import camera_places, changed_scene
from store_svc.domain.zone_suggestions import MOST_SUGGESTIONS, Suggestion, suggest_zones
from tests.support.facts import NOON

Event = tuple[UUID, list[SeenObject]]


def seen(event: int, second: float, foot: Point, height: float, label: str = "person") -> SeenObject:
    x, y = foot
    width = height * (0.3 if label == "person" else 1.5)
    at = NOON + timedelta(seconds=event * 1000 + second)
    return SeenObject(label, 0.8, (x - width / 2, y - height, x + width / 2, y), at, f"{event}/{second}")


def walk(event: int, feet: Sequence[Point], height: float, label: str = "person", pace: float = 1.0) -> Event:
    return UUID(int=event), [seen(event, n * pace, foot, height, label) for n, foot in enumerate(feet)]


def street(first: int = 0) -> list[Event]:
    """People and cars pass far away, from left to right, a tenth of the picture each second."""
    return [
        walk(
            first + n,
            [(0.01 + (n * 7 % 10) / 100 + step / 10, 0.3 + (n % 5) / 100) for step in range(9)],
            0.12,
            "car" if n % 4 == 0 else "person",
        )
        for n in range(30)
    ]


def door(first: int = 100) -> list[Event]:
    """Visitors come from below and stand at a door on the right for 20 s."""
    way = [(0.5 + step / 20, 0.95 - step / 60) for step in range(6)]
    return [walk(first + n, [*way, *[(0.8 + (n % 3) / 100, 0.85)] * 10], 0.45, pace=2.0) for n in range(8)]


def garden(first: int = 200) -> list[Event]:
    """Somebody works in the garden in the lower left, and does not move for long."""
    return [
        walk(first + n, [(0.15 + (n % 4) / 20, 0.7 + (n % 5) / 20)] * 6, 0.35, pace=5.0) for n in range(40)
    ]


def suggested(
    events: list[Event], ground: Ground | None = None, zones: Sequence[SceneZone] = ()
) -> list[Suggestion]:
    """Each of them is valid beside the camera's zones."""
    found = suggest_zones(events, zones, ground)
    changed_scene(b"", {"zones": [zone_message(zone) for zone in (*zones, *(one.zone for one in found))]})
    return found


def kinds(found: Sequence[Suggestion]) -> list[tuple[str, ZoneKind]]:
    return [(one.zone.id, one.zone.kind) for one in found]


def test_a_street_is_public() -> None:
    (found,) = suggested(street(), Ground.STREET_SIDE)
    assert (found.zone.id, found.zone.name, found.zone.kind) == ("street", "Street", ZoneKind.PUBLIC)
    assert (found.people, found.vehicles, found.events) == (198, 72, 30)
    assert found.why.startswith("198 detections of people and 72 of vehicles in 30 events: they appear small")
    area = found.zone.area
    assert all(area.contains((x / 10, 0.31)) for x in range(1, 9))
    assert not any(area.contains((x / 10, y)) for x in range(1, 10) for y in (0.1, 0.5, 0.9))


def test_there_is_a_door_where_people_stop() -> None:
    found = suggested(door())
    assert kinds(found) == [("door", ZoneKind.ENTRY), ("grounds", ZoneKind.PRIVATE)]
    entry, grounds = (one.zone.area for one in found)
    assert entry.contains((0.81, 0.85))
    assert not entry.contains((0.5, 0.95))
    assert grounds.contains((0.55, 0.93))


def test_nobody_waits_for_a_door_in_a_garden() -> None:
    (found,) = suggested(garden(), Ground.GARDEN)
    assert (found.zone.id, found.zone.name, found.zone.kind) == ("garden", "Garden", ZoneKind.PRIVATE)
    assert found.zone.area.contains((0.2, 0.8))
    assert kinds(suggested(garden()))[0] == ("door", ZoneKind.ENTRY)


def test_the_most_private_place_comes_first() -> None:
    found = suggested([*street(), *door()], Ground.FRONT_DOOR)
    assert kinds(found) == [
        ("door", ZoneKind.ENTRY),
        ("path", ZoneKind.APPROACH),
        ("street", ZoneKind.PUBLIC),
    ]


def test_inside_everything_is_inside() -> None:
    found = suggested([*street(), *garden()], Ground.INSIDE)
    assert kinds(found) == [("room", ZoneKind.INSIDE), ("room-2", ZoneKind.INSIDE)]


def test_what_lies_in_a_zone_is_not_proposed_again() -> None:
    """Taking all proposals and asking again gives none."""
    events = [*street(), *door()]
    first = suggested(events)
    zones = [one.zone for one in first]
    assert suggested(events, zones=zones) == []
    rest = suggested([*events, *garden()], Ground.DRIVE, zones)
    assert rest
    assert len({zone.id for zone in (*zones, *(one.zone for one in rest))}) == len(zones) + len(rest)


def test_ids_that_are_taken_are_numbered() -> None:
    (first,) = suggested(street())
    assert first.zone.id == "street"
    taken = [SceneZone("street", "", ZoneKind.PRIVATE, Polygon(((0.0, 0.0), (0.1, 0.0), (0.0, 0.1))))]
    assert [one.zone.id for one in suggested(street(), zones=taken)] == ["street-2"]


@pytest.mark.parametrize(
    "events",
    [
        [],
        street()[:2],  # two events only
        [walk(0, [(0.05 + n / 40, 0.5) for n in range(36)], 0.2)],  # one event
        [walk(n, [(0.5, 0.5)], 0.2, "cat") for n in range(40)],  # neither people nor vehicles
    ],
)
def test_little_is_not_enough_for_a_zone(events: list[Event]) -> None:
    assert suggested(events) == []


def test_no_public_zone_is_proposed_that_would_be_doubted() -> None:
    everywhere = [
        walk(n, [(0.02 + (n % 24) / 24, 0.03 + step / 16) for step in range(16)], 0.1) for n in range(72)
    ]
    assert suggested(everywhere, Ground.STREET_SIDE) == []
    close = walk(900, [(0.5, 0.31)], 0.6)
    assert kinds(suggested([*street(), close])) == []


places = some.floats(0, 1)
spots = some.tuples(places, places, some.floats(0.02, 1), some.sampled_from(["person", "car"]))
grounds = some.sampled_from([None, *Ground])


@given(some.lists(spots, max_size=60), grounds, some.randoms(use_true_random=False))
def test_any_proposal_is_valid_and_does_not_depend_on_the_order_of_events(
    drawn: list[tuple[float, float, float, str]], ground: Ground | None, shuffled: random.Random
) -> None:
    events = [
        (UUID(int=n), [seen(n, step, (x, y), height, label) for step in range(4)])
        for n, (x, y, height, label) in enumerate(drawn)
    ]
    found = suggested(events, ground)
    assert len(found) <= MOST_SUGGESTIONS
    assert not any(is_too_large(one.zone) for one in found)
    shuffled.shuffle(events)
    assert suggested(events, ground) == found
    scene = changed_scene(b"", {"zones": [zone_message(one.zone) for one in found]})
    assert [zone.id for zone in camera_places(scene).zones] == [one.zone.id for one in found]
