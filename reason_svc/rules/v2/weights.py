"""The points of rules/v2. The tables of docs/risk.md are generated from this module.

The numbers come from reasoning about what the people of a house want to be told, and were checked on the
labelled events in tests/judge. They are frozen: other numbers need another version of the rules.
"""

from dataclasses import dataclass

from mesh.scene.places import ZoneKind

# What was seen at all.
CLASS_POINTS = {
    "person": 25,
    "bear": 45,
    "dog": 10,
    "bicycle": 10,
    "boat": 10,
    "bus": 10,
    "car": 10,
    "motorcycle": 10,
    "train": 10,
    "truck": 10,
}
OTHER_CLASS = 5


@dataclass(frozen=True, slots=True)
class StayPoints:
    """Points for each second that somebody stays in a place, and the most of them."""

    by_day: float
    by_night: float
    most: int


STAY = {
    ZoneKind.ENTRY: StayPoints(0.15, 0.4, 15),
    ZoneKind.WINDOW: StayPoints(0.5, 0.5, 20),
    ZoneKind.PRIVATE: StayPoints(0.2, 0.25, 20),
    ZoneKind.INSIDE: StayPoints(0.0, 1.0, 40),  # by day only while the house is away: as by night
    ZoneKind.APPROACH: StayPoints(0.0, 0.15, 12),
}
MOST_STAY = 45
AT_WINDOW_OR_INSIDE = 10
INWARDS_BY_DAY, INWARDS_BY_NIGHT = 5, 20
AWAY, AWAY_PER_SECOND, MOST_AWAY = 12, 0.5, 30
DARK, DARK_IN_PUBLIC = 18, 5
CLOSE = 10
LINGERS_BY_NIGHT = 10
ALL_HOUR = 20
RETURNS = 8
EACH_OTHER, MOST_OTHERS = 12, 20
CAME_BY_VEHICLE = 15
UNWELCOME, LYING, SEEMS_TO_LIE = 40, 40, 10
DOUBTFUL_PLACE = 5
IN_THE_WATER = 10
DOG_AMONG_LIVESTOCK = 25
BEAR_BY_NIGHT = 5
VEHICLE_ON_THE_GROUND, VEHICLE_BY_NIGHT = 10, 15
VEHICLE_WAITS_BY_NIGHT = 20
VEHICLE_RETURNS = 25
TAKEN = 35
VEHICLE_WENT, VEHICLE_WENT_BY_STEALTH = 5, 25
VEHICLE_CAME_BY_STEALTH = 10

# Relief: what speaks against a danger. All of it together takes at most MOST_RELIEF.
MOST_RELIEF = 40
KNOWN = 25
PUBLIC = 20
PUBLIC_VEHICLE = 10
PASSING = 10
BRIEF_BY_DAY = 10
AT_HOME_BY_DAY, AT_HOME_BY_NIGHT = 25, 10
CAME_OUT = 10
FAINT, FAINT_ANIMAL = 20, 10
STANDS_THERE = 10
HABIT = 10
EXPECTED = 15
PRESENT = 10

MEDIUM, HIGH, CRITICAL = 30, 60, 85
