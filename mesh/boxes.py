"""Where in the picture something is: the form of today, and the one that earlier versions wrote."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from lares.detect.v1.detection_pb2 import BoundingBox


class Boxed(Protocol):
    """Detection and EvidenceDetection: `box` is the earlier form."""

    @property
    def bounding_box(self) -> BoundingBox: ...

    @property
    def box(self) -> Sequence[float]: ...

    def HasField(self, name: Literal["bounding_box"], /) -> bool: ...


def bounding_box(edges: Iterable[float]) -> BoundingBox:
    """Of [x_min, y_min, x_max, y_max]."""
    x_min, y_min, x_max, y_max = edges
    return BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


def edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """The way back."""
    return box.x_min, box.y_min, box.x_max, box.y_max


def edges_of(found: Boxed) -> list[float]:
    """[x_min, y_min, x_max, y_max] of `bounding_box`, else what is in `box`: that may be of any length."""
    if found.HasField("bounding_box"):
        return list(edges(found.bounding_box))
    return list(found.box)
