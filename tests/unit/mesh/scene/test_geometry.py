import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.geometry import Box, area, common_area, likeness

SIDES = some.tuples(*[some.floats(0, 1, width=32)] * 4)
BOXES = SIDES.map(lambda s: (min(s[0], s[1]), min(s[2], s[3]), max(s[0], s[1]), max(s[2], s[3])))


def test_a_box_that_is_moved_by_a_quarter_of_its_width_is_just_so_alike() -> None:
    assert likeness((0.0, 0.0, 0.4, 0.2), (0.1, 0.0, 0.5, 0.2)) == pytest.approx(0.6)


def test_boxes_that_only_touch_share_nothing() -> None:
    assert likeness((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)) == 0
    assert common_area((0.0, 0.0, 1.0, 0.5), (0.25, 0.25, 0.5, 1.0)) == 0.0625


@given(BOXES, BOXES)
def test_is_symmetric_and_within_bounds(box: Box, other: Box) -> None:
    assert likeness(box, other) == likeness(other, box)
    assert 0 <= likeness(box, other) <= 1 + 1e-9
    if area(box) > 0:
        assert likeness(box, box) == pytest.approx(1)
