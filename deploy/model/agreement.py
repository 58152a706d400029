"""Compares two models' outputs for the same photos, regardless of the order of equal scores. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Runtimes that add floats in another order differ by 1e-5 to 1e-4, a wrong graph by much more.
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 2e-3


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The output for one photo, best first: scores [Q] in 0..1, class numbers [Q], boxes [Q, 4] (x, y, x, y
    in 0..1)."""

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest differences of score and box among `matched` findings. `missing` findings have no
    counterpart."""

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


def compare(outputs: list[ModelOutput], references: list[ModelOutput]) -> Agreement:
    """Both are for the same photos, in the same order."""
    pairs = [
        pair
        for output, reference in zip(outputs, references, strict=True)
        for pair in _pairs(output, reference)
    ]
    matched = [pair for pair in pairs if pair is not None]
    return Agreement(
        matched=len(matched),
        missing=len(pairs) - len(matched),
        score=max((score for score, _ in matched), default=0.0),
        box=max((box for _, box in matched), default=0.0),
    )


def _pairs(output: ModelOutput, reference: ModelOutput) -> Iterator[tuple[float, float] | None]:
    """The differences of score and box between each finding and the nearest unmatched one of the same class
    in `reference`; None for a finding without a counterpart.

    Of equal scores at the end of the list each side may have kept another one, so these may lack a
    counterpart.
    """
    unmatched = np.ones(len(reference.scores), bool)
    lowest = max(output.scores[-1], reference.scores[-1]) + SCORE_TOLERANCE
    for score, label, box in zip(output.scores, output.labels, output.boxes, strict=True):
        scores = np.abs(reference.scores - score)
        boxes = np.abs(reference.boxes - box).max(axis=1)
        distance = np.where(
            unmatched & (reference.labels == label), scores / SCORE_TOLERANCE + boxes / BOX_TOLERANCE, np.inf
        )
        nearest = int(distance.argmin())
        if np.isfinite(distance[nearest]) and (distance[nearest] <= 2 or score > lowest):
            unmatched[nearest] = False
            yield float(scores[nearest]), float(boxes[nearest])
        elif score > lowest:
            yield None
