"""The summary of an event in one or two sentences."""

from reason_svc.plain_text import plain_text
from reason_svc.rules.v1.scene import DetectedClass, Scene

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "bus": "buses", "sheep": "sheep"}
WHEN = {
    "night": "at night",
    "early morning": "in the early morning",
    "day": "by day",
    "evening": "in the evening",
}
MAX_CLASSES = 3
MAX_NAME_LENGTH = 64


def summarise(scene: Scene, camera_name: str, past: int) -> str:
    """Returns one or two sentences:

    `One person for 12 s at night at Front Door. 2 other events here in the hour before.`
    """
    words = [_joined([counted(detected) for detected in scene.classes])]
    seconds = scene.main.seconds
    if seconds >= 1:
        words.append(f"for {duration(seconds)}")
    words.append(WHEN[scene.part_of_day])
    if name := plain_text(camera_name, MAX_NAME_LENGTH):
        words.append(f"at {name}")
    first = " ".join(words)
    return f"{first[0].upper()}{first[1:]}." + (f" {past_events(past)}." if past else "")


def counted(detected: DetectedClass) -> str:
    """Returns a text like `one person`, `two cars`, `12 sheep`."""
    number = NUMBERS[detected.count] if detected.count < len(NUMBERS) else str(detected.count)
    plural = PLURALS.get(detected.label, detected.label + "s")
    return f"{number} {detected.label if detected.count == 1 else plural}"


def duration(seconds: float) -> str:
    """Returns a text like `12 s` or `1 min 30 s`, in whole seconds, rounded down."""
    minutes, rest = divmod(int(seconds), 60)
    return " ".join(
        part for part in (minutes and f"{minutes} min", (rest or not minutes) and f"{rest} s") if part
    )


def past_events(past: int) -> str:
    return f"{past} other event{'s' if past > 1 else ''} here in the hour before"


def _joined(items: list[str]) -> str:
    if len(items) > MAX_CLASSES:
        items = [*items[:MAX_CLASSES], "more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
