"""Bounding boxes in messages: today's form, and the form that earlier versions wrote."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from lares.detect.v1.detection_pb2 import BoundingBox

# Label, score in 0..1, then x_min, y_min, x_max, y_max in 0..1 of the upright picture.
LabelledBox = tuple[str, float, float, float, float, float]


class Boxed(Protocol):
    """Detection and EvidenceDetection. `box` is the earlier form."""

    @property
    def bounding_box(self) -> BoundingBox: ...

    @property
    def box(self) -> Sequence[float]: ...

    def HasField(self, name: Literal["bounding_box"], /) -> bool: ...


def bounding_box(edges: Iterable[float]) -> BoundingBox:
    """Takes x_min, y_min, x_max, y_max."""
    x_min, y_min, x_max, y_max = edges
    return BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


def edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """Returns x_min, y_min, x_max, y_max."""
    return box.x_min, box.y_min, box.x_max, box.y_max


def edges_of(found: Boxed) -> list[float]:
    """Returns the edges of `bounding_box` if it is set, otherwise `box`, which may have any length."""
    if found.HasField("bounding_box"):
        return list(edges(found.bounding_box))
    return list(found.box)
