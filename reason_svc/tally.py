"""What the worker has done since the process started."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """`judging` is how many events are in hand now."""

    judging: int = 0
    judged: int = 0
    failed: int = 0
