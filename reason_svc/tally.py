"""What the worker has done since the process started."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """`assessing` is how many events are in hand now."""

    assessing: int = 0
    assessed: int = 0
    failed: int = 0
