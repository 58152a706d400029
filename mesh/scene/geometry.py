"""Places in a camera's picture: points, polygons and segments. Pure.

Coordinates are 0..1 of the width and height of the upright picture, from the upper left corner; y grows
downwards.
"""

from dataclasses import dataclass
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
# x_min, y_min, x_max, y_max
Box: TypeAlias = tuple[float, float, float, float]


def foot_point(box: Box) -> Point:
    """The middle of the box's lower edge, where the object touches the ground."""
    return (box[0] + box[2]) / 2, box[3]


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def common_area(box: Box, other: Box) -> float:
    """The area that two boxes share."""
    if box[2] <= other[0] or other[2] <= box[0]:  # most boxes lie side by side
        return 0.0
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def likeness(box: Box, other: Box) -> float:
    """How alike two boxes are: the area that they share, as a share of the area that they cover together. 1
    for equal boxes, 0 for boxes that do not touch."""
    common = common_area(box, other)
    return common / (area(box) + area(other) - common) if common else 0.0


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon of at least three corners, in order. It may be concave, and contains its edges."""

    corners: tuple[Point, ...]

    @property
    def share(self) -> float:
        """Its area as a share of the picture's, by the shoelace formula."""
        pairs = zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True)
        return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2

    def contains(self, point: Point) -> bool:
        """Applies the even-odd rule."""
        x, y = point
        inside = False
        start_x, start_y = self.corners[-1]
        for end_x, end_y in self.corners:
            side = (end_x - start_x) * (y - start_y) - (end_y - start_y) * (x - start_x)
            if (
                side == 0
                and min(start_x, end_x) <= x <= max(start_x, end_x)
                and min(start_y, end_y) <= y <= max(start_y, end_y)
            ):
                return True
            # The edge crosses the horizontal line through the point, to the right of the point.
            if (start_y > y) != (end_y > y) and (side > 0) == (end_y > start_y):
                inside = not inside
            start_x, start_y = end_x, end_y
        return inside


@dataclass(frozen=True, slots=True)
class Segment:
    """A directed segment. Its right side, seen from `start` to `end`, is inwards."""

    start: Point
    end: Point

    def side(self, point: Point) -> float:
        """Positive on the right side, negative on the left one, 0 on the segment's line."""
        (start_x, start_y), (end_x, end_y) = self.start, self.end
        return (end_x - start_x) * (point[1] - start_y) - (end_y - start_y) * (point[0] - start_x)

    def crosses(self, before: Point, after: Point) -> bool:
        """Returns whether the way from `before` to `after`, which are on different sides of the segment's
        line, meets the segment itself."""
        way = Segment(before, after)
        return way.side(self.start) * way.side(self.end) <= 0
