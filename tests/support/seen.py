"""Photos of things at given places."""

from lares.detect.v1.events_pb2 import MediaDetected
from lares.scene.v1.scene_pb2 import Point
from tests.support.facts import reported


def polygon(corners: tuple[tuple[float, float], ...]) -> list[Point]:
    return [Point(x=x, y=y) for x, y in corners]


def seen(
    n: int, seconds: float, *feet: tuple[float, float], label: str = "person", camera: str = "front"
) -> MediaDetected:
    """The nth photo, with a thing at each of these foot points: its box is 0.125 wide and 0.25 high."""
    message = reported(n, seconds, *[(label, 0.75)] * len(feet), camera=camera)
    for detection, (x, y) in zip(message.frames[0].detections, feet, strict=True):
        box = detection.bounding_box
        box.x_min, box.y_min, box.x_max, box.y_max = x - 0.0625, y - 0.25, x + 0.0625, y
    return message
