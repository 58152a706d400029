"""What a judge says."""

from dataclasses import dataclass

MOST_DETECTION_IDS = 16


@dataclass(frozen=True, slots=True)
class Factor:
    """One reason for the score: a stable name, the points it adds, a text for a person, and the detections it
    rests on (at most 16)."""

    name: str
    points: int
    text: str
    detection_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` is 0..100; `summary` one or two sentences. `model` and `prompt_hash` are empty for rules."""

    score: int
    summary: str
    factors: tuple[Factor, ...]
    model: str = ""
    prompt_hash: str = ""
