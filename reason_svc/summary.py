"""The sentences for a person."""

from reason_svc.evidence import plain_text
from reason_svc.scene import Scene, Thing

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "bus": "buses", "sheep": "sheep"}
WHEN = {
    "night": "at night",
    "early morning": "in the early morning",
    "day": "by day",
    "evening": "in the evening",
}
MOST_THINGS = 3
MOST_NAME = 64


def summarise(scene: Scene, place: str, past: int) -> str:
    """`One person for 12 s at night at Front Door. 2 other events here in the hour before.`"""
    words = [_listed([counted(thing) for thing in scene.things])]
    seconds = scene.main.seconds
    if seconds >= 1:
        words.append(f"for {lasting(seconds)}")
    words.append(WHEN[scene.part_of_day])
    if name := plain_text(place, MOST_NAME):
        words.append(f"at {name}")
    first = " ".join(words)
    return f"{first[0].upper()}{first[1:]}." + (f" {before(past)}." if past else "")


def counted(thing: Thing) -> str:
    """`one person`, `two cars`, `12 sheep`."""
    number = WORDS[thing.count] if thing.count < len(WORDS) else str(thing.count)
    return f"{number} {thing.label if thing.count == 1 else PLURALS.get(thing.label, thing.label + 's')}"


def lasting(seconds: float) -> str:
    """`12 s`, `1 min 30 s`; whole seconds, rounded down."""
    minutes, rest = divmod(int(seconds), 60)
    return " ".join(
        part for part in (minutes and f"{minutes} min", (rest or not minutes) and f"{rest} s") if part
    )


def before(past: int) -> str:
    """How many events the camera had before this one."""
    return f"{past} other event{'s' if past > 1 else ''} here in the hour before"


def _listed(things: list[str]) -> str:
    if len(things) > MOST_THINGS:
        things = [*things[:MOST_THINGS], "more"]
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"
