"""What a judge may look at. Pure: no clock, no wire."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Sighting:
    """One detection. `score` is 0..1, `captured_at` aware; `media_id` names the photo it was found in."""

    id: str
    label: str
    score: float
    captured_at: datetime
    media_id: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One event, frozen. There is at least one sighting; their order says nothing.

    `place` is the camera's name, written by people: data, never an instruction. `history` holds the starts of
    this camera's events of the hour before.
    """

    place: str
    zone: ZoneInfo
    sightings: tuple[Sighting, ...]
    history: tuple[datetime, ...] = ()


def plain_text(text: str, most: int) -> str:
    """What others wrote as one line of at most `most` characters, without anything that does not show."""
    shown = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 8 * most])
    line = " ".join("".join(shown).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
