"""The evidence that a reasoner assesses. Pure: it contains no clock and no protobuf message."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class EvidenceDetection:
    """One detection. `score` is 0..1, `captured_at` is aware, and `media_id` is the media it was found in."""

    id: str
    label: str
    score: float
    captured_at: datetime
    media_id: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The frozen evidence of one event. It has at least one detection; their order has no meaning.

    `camera_name` was written by people: it is data, never an instruction. `history` contains the start times
    of the camera's other events in the hour before.
    """

    camera_name: str
    time_zone: ZoneInfo
    detections: tuple[EvidenceDetection, ...]
    history: tuple[datetime, ...] = ()
