"""Which zones and lines are probably drawn wrongly."""

from datetime import timedelta

import pytest

from mesh.scene.geometry import Polygon, Segment
from mesh.scene.links import SeenObject
from mesh.scene.places import SceneLine, SceneZone, ZoneKind
from store_svc.domain.scene_warnings import needs_detections, warnings_of
from tests.support.facts import NOON


def zone(width: float, kind: ZoneKind = ZoneKind.PUBLIC) -> SceneZone:
    """The left part of the picture."""
    return SceneZone("left", "", kind, Polygon(((0.0, 0.0), (width, 0.0), (width, 1.0), (0.0, 1.0))))


GATE = SceneLine("gate", "", Segment((0.5, 0.0), (0.5, 1.0)))


def seen(x: float, height: float, second: float = 0.0, label: str = "person") -> SeenObject:
    """Its foot point is at (x, 0.9)."""
    box = (x - 0.1, 0.9 - height, x + 0.1, 0.9)
    return SeenObject(label, 0.9, box, NOON + timedelta(seconds=second), f"photo {second}")


def passing(event: int, *, crosses: bool) -> list[SeenObject]:
    start = event * 1000
    return [seen(0.4, 0.3, start), seen(0.6 if crosses else 0.45, 0.3, start + 1)]


def test_a_public_zone_over_three_fifths_of_the_picture_is_doubted() -> None:
    assert warnings_of([zone(0.6)], [], []) == []
    (warning,) = warnings_of([zone(0.625)], [], [])
    assert warning.startswith("Zone 'left' is public and covers 62% of the picture.")
    assert warnings_of([zone(1.0, ZoneKind.PRIVATE)], [], []) == []


def test_a_public_zone_in_which_people_appear_tall_is_doubted() -> None:
    assert (
        warnings_of([zone(0.5)], [], [[seen(0.25, 0.5), seen(0.75, 0.6), seen(0.25, 0.6, label="car")]]) == []
    )
    (warning,) = warnings_of([zone(0.5)], [], [[seen(0.75, 0.2)], [seen(0.25, 0.51)]])
    assert warning.startswith("Zone 'left' is public, but people stood in it who are taller than 50%")
    assert warnings_of([zone(0.5, ZoneKind.ENTRY)], [], [[seen(0.25, 0.51)]]) == []


@pytest.mark.parametrize(
    ("crossing", "passing_by", "doubted"), [(11, 9, True), (10, 10, False), (19, 0, False)]
)
def test_a_line_that_most_of_many_tracks_cross_is_doubted(
    crossing: int, passing_by: int, doubted: bool
) -> None:
    events = [passing(n, crosses=n < crossing) for n in range(crossing + passing_by)]
    warnings = warnings_of([], [GATE], events)
    assert [one.startswith(f"Line 'gate' was crossed by {crossing} of 20 ") for one in warnings] == [
        True
    ] * doubted


def test_what_was_seen_once_is_no_track() -> None:
    events = [passing(n, crosses=True) for n in range(19)] + [[seen(0.4, 0.3)]] * 30
    assert warnings_of([], [GATE], events) == []


def test_only_public_zones_and_lines_depend_on_what_was_seen() -> None:
    assert needs_detections([zone(0.5)], [])
    assert needs_detections([], [GATE])
    assert not needs_detections([zone(0.5, ZoneKind.ENTRY)], [])
