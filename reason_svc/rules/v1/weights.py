"""The points of rules/v1. The tables of docs/risk.md are generated from this module.

No combination of the points adds up to less than 0 or more than 100, so a score is the plain sum of its
factors and is never cut. The numbers are frozen: other numbers need another version of the rules.
"""

from dataclasses import dataclass
from datetime import time

# Pairs of (lowest value, points), ascending. A value below the first pair has no points.
Steps = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class ObjectKind:
    """The points that circumstances add for one kind of object: by the part of the day, by how many objects
    one photo shows, by how many seconds they stay, and by how many events there were in the hour before."""

    name: str
    night: int
    twilight: int
    count: Steps
    dwell: Steps
    repeat: Steps


PERSON = ObjectKind(
    "person",
    night=25,
    twilight=10,
    count=((2, 8), (3, 10), (4, 12)),
    dwell=((10, 4), (30, 9), (60, 12)),
    repeat=((1, 3), (2, 5), (3, 6)),
)
VEHICLE = ObjectKind(
    "vehicle",
    night=15,
    twilight=5,
    count=((2, 3), (4, 5)),
    dwell=((10, 2), (30, 4), (60, 6)),
    repeat=((1, 1), (2, 2), (3, 3)),
)
ANIMAL = ObjectKind(
    "animal",
    night=4,
    twilight=2,
    count=((2, 2), (4, 3)),
    dwell=((30, 2), (60, 3)),
    repeat=((1, 1), (3, 2)),
)
KINDS = (PERSON, VEHICLE, ANIMAL)

CLASSES: dict[str, tuple[ObjectKind, int]] = {
    "person": (PERSON, 40),
    "bicycle": (VEHICLE, 20),
    "car": (VEHICLE, 25),
    "motorcycle": (VEHICLE, 28),
    "bus": (VEHICLE, 22),
    "truck": (VEHICLE, 28),
    "bird": (ANIMAL, 5),
    "cat": (ANIMAL, 5),
    "dog": (ANIMAL, 15),
    "horse": (ANIMAL, 15),
    "sheep": (ANIMAL, 8),
    "cow": (ANIMAL, 12),
    "bear": (ANIMAL, 55),
}
# Any other watched class.
OTHER = (VEHICLE, 15)

# By the best detection's score.
CONFIDENCE: Steps = ((0.0, -5), (0.5, 0), (0.8, 5))

# Parts of the day by the local time at which they begin.
HOURS: tuple[tuple[time, str], ...] = (
    (time(0), "night"),
    (time(6), "early morning"),
    (time(7), "day"),
    (time(20), "evening"),
    (time(22), "night"),
)


def points_at(steps: Steps, value: float) -> int:
    """Returns the points of the last step that `value` reaches."""
    return next((points for least, points in reversed(steps) if value >= least), 0)


def part_of_day(local: time) -> str:
    """Returns `night`, `early morning`, `day` or `evening`. `local` is naive."""
    return next(name for begins, name in reversed(HOURS) if local >= begins)


def hour_points(kind: ObjectKind, part: str) -> int:
    return {"night": kind.night, "day": 0}.get(part, kind.twilight)
