"""The summary of an event in one or two sentences."""

from collections.abc import Sequence

from mesh.scene.places import ZoneKind
from reason_svc.evidence import ChangeKind
from reason_svc.plain_text import plain_text
from reason_svc.rules.v2.subject import EventScene, Subject
from reason_svc.rules.v2.texts import PLACES, a_thing, listed, name_of, seconds_text

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "bus": "buses", "sheep": "sheep"}
WORDS = {ChangeKind.CAME: "came", ChangeKind.WENT: "went"}
MAX_LABELS, MAX_NAME_LENGTH = 3, 64


def summarise(scene: EventScene, main: Subject | None) -> str:
    """Returns a text like `One person for 12 s at a window in the dark at Back garden, while nobody is at
    home.`; if nothing is seen, like `A car went in the dark at Drive.`"""
    if main is None:
        change = scene.main_change
        return _sentence(scene, [a_thing(name_of(change)), WORDS[change.kind]])
    labels = [main.label, *sorted({one.label for one in scene.subjects} - {main.label})]
    counted = [_counted(label, _most_at_once(scene, label)) for label in labels[:MAX_LABELS]]
    words = [listed([*counted, "more"] if len(labels) > MAX_LABELS else counted)]
    if main.duration >= 1:
        words.append(f"for {seconds_text(main.duration)}")
    if main.kinds:
        words.append(
            PLACES[max(main.kinds, key=lambda kind: (main.seconds[kind], kind is not ZoneKind.PUBLIC))]
        )
    return _sentence(scene, words)


def _sentence(scene: EventScene, words: Sequence[str]) -> str:
    words = [*words, "in the dark" if scene.dark else "by day"]
    if name := plain_text(scene.evidence.camera_name, MAX_NAME_LENGTH):
        words.append(f"at {name}")
    text = " ".join(words)
    away = ", while nobody is at home" if scene.away else ""
    return f"{text[0].upper()}{text[1:]}{away}."


def _most_at_once(scene: EventScene, label: str) -> int:
    frames: dict[tuple[object, str], int] = {}
    for found in scene.evidence.detections:
        if found.label == label:
            key = (found.captured_at, found.media_id)
            frames[key] = frames.get(key, 0) + 1
    return max(frames.values())


def _counted(label: str, count: int) -> str:
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{number} {label if count == 1 else PLURALS.get(label, label + 's')}"
