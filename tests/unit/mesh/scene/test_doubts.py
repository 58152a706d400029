"""Zones that are not believed, and the area that decides it."""

import pytest

from mesh.scene.doubts import is_tall, is_too_large
from mesh.scene.geometry import Polygon
from mesh.scene.places import SceneZone, ZoneKind


@pytest.mark.parametrize(
    ("corners", "share"),
    [
        (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), 1.0),
        (((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)), 0.5),
        (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)), 0.75),  # concave
    ],
)
def test_the_share_of_a_polygon_in_either_direction(
    corners: tuple[tuple[float, float], ...], share: float
) -> None:
    assert Polygon(corners).share == Polygon(corners[::-1]).share == share


def test_only_public_zones_are_too_large() -> None:
    whole = Polygon(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    assert [kind for kind in ZoneKind if is_too_large(SceneZone("a", "", kind, whole))] == [ZoneKind.PUBLIC]


def test_tall_is_more_than_half_the_picture() -> None:
    assert not is_tall((0.25, 0.25, 0.5, 0.75))
    assert is_tall((0.25, 0.25, 0.5, 0.76))
