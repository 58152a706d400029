"""The tables of docs/risk.md about rules/v2, with the points that the code has."""

from collections.abc import Sequence

from mesh.scene.doubts import TALL
from mesh.scene.places import ZoneKind
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.additions import CLOSE_HEIGHT, LINGERING_SECONDS, WAITING_SECONDS
from reason_svc.rules.v2.floors import STAY_SECONDS, WATER_SECONDS
from reason_svc.rules.v2.reliefs import BRIEF_SECONDS, HABIT_DAYS
from reason_svc.rules.v2.subject import LYING_SECONDS, PASSING_SECONDS

# A factor's name, when it applies, and its points.
Row = tuple[str, str, str]


def additions() -> Sequence[Row]:
    return (
        ("class", "what was seen", _classes()),
        ("stay", "a person stays in a place; minutes of the hour before count, too", _stays()),
        ("place", "a person is at a window or inside", _plus(weights.AT_WINDOW_OR_INSIDE)),
        (
            "inwards",
            "a person crosses a line inwards, or comes from public onto private ground",
            f"by day {_plus(weights.INWARDS_BY_DAY)}, in the dark {_plus(weights.INWARDS_BY_NIGHT)}",
        ),
        (
            "away",
            "the house is away, and a person is not only on public ground or the approach",
            f"{_plus(weights.AWAY)}, {_plus(weights.AWAY_PER_SECOND)} a second, at most"
            f" {_plus(weights.MOST_AWAY)}",
        ),
        (
            "dark",
            "it is dark, and a person or a bear is there",
            f"{_plus(weights.DARK)}, on public ground {_plus(weights.DARK_IN_PUBLIC)}, a bear"
            f" {_plus(weights.BEAR_BY_NIGHT)}",
        ),
        (
            "close",
            f"a person fills {CLOSE_HEIGHT:.0%} of the picture's height in the dark",
            _plus(weights.CLOSE),
        ),
        (
            "lingers",
            f"a person stays on public ground for {LINGERING_SECONDS:g} s between midnight and five",
            _plus(weights.LINGERS_BY_NIGHT),
        ),
        (
            "returning",
            "in the dark, and in events of the hour before, too",
            f"a person on the ground {_plus(weights.RETURNS)}, people for most of the hour"
            f" {_plus(weights.ALL_HOUR)}, a vehicle {_plus(weights.VEHICLE_RETURNS)}",
        ),
        (
            "several",
            "other people in the same frame, in the dark or while the house is away",
            f"{_plus(weights.EACH_OTHER)} each, at most {_plus(weights.MOST_OTHERS)}",
        ),
        (
            "vehicle",
            "a vehicle came in with a person in the dark, and nobody known is there",
            _plus(weights.CAME_BY_VEHICLE),
        ),
        ("unwelcome", "somebody has named a person who must not come", _plus(weights.UNWELCOME)),
        (
            "lying",
            f"a person lies for {LYING_SECONDS:g} s; or in every frame",
            f"{_plus(weights.LYING)}; {_plus(weights.SEEMS_TO_LIE)}",
        ),
        ("water", "somebody small and alone is in the water", _plus(weights.IN_THE_WATER)),
        ("doubt", "a person is in a public zone that cannot be right", _plus(weights.DOUBTFUL_PLACE)),
        (
            "combination",
            "a dog among sheep or other livestock, and nobody known is there",
            _plus(weights.DOG_AMONG_LIVESTOCK),
        ),
        (
            "arrived",
            "a vehicle comes onto private ground",
            f"{_plus(weights.VEHICLE_ON_THE_GROUND)}, between midnight and five"
            f" {_plus(weights.VEHICLE_ON_THE_GROUND + weights.VEHICLE_BY_NIGHT)}",
        ),
        (
            "waits",
            f"a vehicle stands in the street for {WAITING_SECONDS:g} s with somebody, from midnight to five",
            _plus(weights.VEHICLE_WAITS_BY_NIGHT),
        ),
        ("taken", "a thing is gone while a person is there whom nobody named", _plus(weights.TAKEN)),
        (
            "went",
            "a vehicle is gone that stood on the ground, and it is not somebody known who is there",
            f"{_plus(weights.VEHICLE_WENT)}, between midnight and five or away"
            f" {_plus(weights.VEHICLE_WENT_BY_STEALTH)}",
        ),
        (
            "came",
            "a vehicle comes and stays, between midnight and five or while the house is away",
            _plus(weights.VEHICLE_CAME_BY_STEALTH),
        ),
    )


def reliefs() -> Sequence[Row]:
    by_day, by_night = weights.AT_HOME_BY_DAY, weights.AT_HOME_BY_NIGHT
    return (
        (
            "known",
            "somebody has said who it is (`identifyTrack`), and the person is welcome",
            _minus(weights.KNOWN),
        ),
        (
            "public",
            "only on public ground",
            f"{_minus(weights.PUBLIC)}, a vehicle {_minus(weights.PUBLIC_VEHICLE)}",
        ),
        (
            "passing",
            f"seen for at most {PASSING_SECONDS:g} s in a place that no zone names",
            _minus(weights.PASSING),
        ),
        (
            "brief",
            f"less than {BRIEF_SECONDS:g} s by day on the approach, at the door or in a place that no zone"
            " names, not away",
            _minus(weights.BRIEF_BY_DAY),
        ),
        (
            "at_home",
            "mode `home`; in the dark not for somebody unidentified at an entry, a window or inside",
            f"by day {_minus(by_day)}, in the dark {_minus(by_night)}",
        ),
        (
            "came_out",
            "first seen at a door, while a mode is set that is not `away`",
            _minus(weights.CAME_OUT),
        ),
        (
            "faint",
            "few frames and low certainty",
            f"{_minus(weights.FAINT)}, no person {_minus(weights.FAINT_ANIMAL)}",
        ),
        ("stands", "a vehicle that stood there before", _minus(weights.STANDS_THERE)),
        ("habit", f"by day: seen on at least {HABIT_DAYS} days at this hour", _minus(weights.HABIT)),
        ("expected", "an expected visit", _minus(weights.EXPECTED)),
        (
            "present",
            "somebody of the house has just arrived: for one person who came first to an approach or a door",
            _minus(weights.PRESENT),
        ),
    )


def floors() -> Sequence[Row]:
    medium, high, critical = (str(level) for level in (weights.MEDIUM, weights.HIGH, weights.CRITICAL))
    return (
        (
            medium,
            "an unidentified person at an entry, a window, on private ground or inside, or taller than"
            f" {TALL:.0%} of the picture, in the dark or while the house is away",
            "`identifyTrack`",
        ),
        (
            high,
            f"an unidentified person for {STAY_SECONDS:g} s at a window or inside, in the dark also at an"
            " entry, while the house is away",
            "`identifyTrack`",
        ),
        (
            high,
            "an unidentified person comes from public onto private ground while the house is away",
            "`identifyTrack`",
        ),
        (high, f"a person lies for {LYING_SECONDS:g} s", "nothing"),
        (high, "somebody has named a person who must not come", "nothing"),
        (
            critical,
            "several unidentified people in one frame inside while the house is away",
            "`identifyTrack`",
        ),
        (critical, "a bear beside a person", "nothing"),
        (
            critical,
            f"somebody small in the water for {WATER_SECONDS:g} s while nobody taller is seen",
            "nothing",
        ),
    )


def _classes() -> str:
    by_points: dict[int, list[str]] = {}
    for label, points in weights.CLASS_POINTS.items():
        by_points.setdefault(points, []).append(label)
    named = [f"{', '.join(labels)} {_plus(points)}" for points, labels in by_points.items()]
    return "; ".join([*named, f"any other {_plus(weights.OTHER_CLASS)}"])


def _stays() -> str:
    rows = (
        f"{ZoneKind(kind).name.lower()} {_plus(stay.by_day)}, in the dark {_plus(stay.by_night)}, at most"
        f" {_plus(stay.most)}"
        for kind, stay in weights.STAY.items()
    )
    return f"a second: {'; '.join(rows)}; together at most {_plus(weights.MOST_STAY)}"


def _plus(points: float) -> str:
    return f"+{points:g}"


def _minus(points: float) -> str:
    return f"-{points:g}"
