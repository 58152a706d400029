"""Whether two answers to the same photos say the same, whatever the order of what scores alike. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Two runtimes that add floats up in another order differ by 1e-5 to 1e-4; a wrong graph by much more.
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 2e-3


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Of one photo, best first: scores [Q] in 0..1, labels [Q], boxes [Q, 4] normalised xyxy."""

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest differences among `matched` findings; `missing` have no counterpart on the other side."""

    matched: int
    missing: int
    score: float
    box: float

    @property
    def holds(self) -> bool:
        return bool(
            self.matched and not self.missing and self.score <= SCORE_TOLERANCE and self.box <= BOX_TOLERANCE
        )

    def __str__(self) -> str:
        return (
            f"{self.matched} findings matched, {self.missing} without a counterpart; largest differences: "
            f"score {self.score:.1e} (allowed {SCORE_TOLERANCE:.0e}), "
            f"box {self.box:.1e} of the side (allowed {BOX_TOLERANCE:.0e})"
        )


def compare(ours: list[ModelOutput], theirs: list[ModelOutput]) -> Agreement:
    """`ours` and `theirs` answer the same photos, in the same order."""
    pairs = [pair for one, other in zip(ours, theirs, strict=True) for pair in _pairs(one, other)]
    near = [pair for pair in pairs if pair is not None]
    return Agreement(
        matched=len(near),
        missing=len(pairs) - len(near),
        score=max((score for score, _ in near), default=0.0),
        box=max((box for _, box in near), default=0.0),
    )


def _pairs(ours: ModelOutput, theirs: ModelOutput) -> Iterator[tuple[float, float] | None]:
    """(difference in score, in the box) of each of our findings and its nearest of the same class that is
    still free over there; None where nothing of that class is left.

    At the end of the list either side may have kept another of two equals: what is missing there is no miss.
    """
    free = np.ones(len(theirs.scores), bool)
    last = max(ours.scores[-1], theirs.scores[-1]) + SCORE_TOLERANCE
    for score, label, box in zip(ours.scores, ours.labels, ours.boxes, strict=True):
        scores = np.abs(theirs.scores - score)
        boxes = np.abs(theirs.boxes - box).max(axis=1)
        far = np.where(
            free & (theirs.labels == label), scores / SCORE_TOLERANCE + boxes / BOX_TOLERANCE, np.inf
        )
        nearest = int(far.argmin())
        if np.isfinite(far[nearest]) and (far[nearest] <= 2 or score > last):
            free[nearest] = False
            yield float(scores[nearest]), float(boxes[nearest])
        elif score > last:
            yield None
