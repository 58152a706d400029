"""A frame's message from the numbers of a model.

The embedded detector makes it in its child process, and the bytes are published as they are, so this module
imports nothing but the contract.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from lares.detect.v1.detection_pb2 import Frame

# Label, score in 0..1, and box: [x_min, y_min, x_max, y_max] in 0..1 of the upright picture.
Finding: TypeAlias = tuple[str, float, Sequence[float]]


def frame_message(width: int, height: int, findings: Iterable[Finding]) -> Frame:
    """`findings` are the detector's whole raw output, best first: their order is their rank. `width` and
    `height` are the upright picture's in pixels."""
    frame = Frame(width=width, height=height)
    for rank, (label, score, edges) in enumerate(findings):
        # Several times as fast as constructing the messages and copying them.
        box = frame.detections.add(rank=rank, label=label, score=score).bounding_box
        box.x_min, box.y_min, box.x_max, box.y_max = edges
    return frame
