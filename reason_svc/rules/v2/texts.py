"""The words of factors and summaries."""

from collections.abc import Sequence

from mesh.scene.places import ZoneKind
from mesh.scene.tracks import VEHICLES
from reason_svc.evidence import EvidenceDetection, SceneChange
from reason_svc.reasoner import MAX_DETECTION_IDS, ScoreFactor

PLACES = {
    ZoneKind.PUBLIC: "on public ground",
    ZoneKind.APPROACH: "on the way to the door",
    ZoneKind.PRIVATE: "on private ground",
    ZoneKind.ENTRY: "at a door",
    ZoneKind.WINDOW: "at a window",
    ZoneKind.INSIDE: "inside the house",
    ZoneKind.WATER: "in the water",
}


def factor(name: str, points: int, text: str, detections: Sequence[EvidenceDetection]) -> ScoreFactor:
    return ScoreFactor(name, points, text, tuple(found.id for found in detections[:MAX_DETECTION_IDS]))


def a_thing(label: str) -> str:
    """Returns the beginning of a sentence: `An umbrella`."""
    return f"{'An' if label[:1] in 'aeiou' else 'A'} {label}"


def name_of(change: SceneChange) -> str:
    """The name of a vehicle; what else came or went, somebody else may have named."""
    return change.thing if change.thing in VEHICLES else "thing"


def listed(items: Sequence[str]) -> str:
    """Returns a text like `one person, two cars and a dog`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def seconds_text(seconds: float) -> str:
    """Returns a text like `12 s` or `1 min 30 s`, in whole seconds, rounded down."""
    minutes, rest = divmod(int(seconds), 60)
    return " ".join(
        part for part in (minutes and f"{minutes} min", (rest or not minutes) and f"{rest} s") if part
    )
