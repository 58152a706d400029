"""RT-DETRv2's raw output as findings; the same for every server and runtime. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect_svc.detectors.coco_labels import UNNAMED
from detect_svc.detectors.detector import RawFinding
from mesh.problems import Internal

# What RT-DETR's authors draw from; not measured here, where no trained weights can be fetched.
THRESHOLD = 0.50
# A person at or above it is judged at once. By design, not measured either.
FAST_THRESHOLD = 0.90
# The least score in the raw output. Lower ones are noise at any threshold that makes sense.
FLOOR = 0.1
DIGITS = 6


def read_findings(
    scores: NDArray[np.float32], kinds: NDArray[np.int32], boxes: NDArray[np.float32], labels: Sequence[str]
) -> list[RawFinding]:
    """[q] scores, [q] class numbers and [q, 4] boxes (normalised x, y, x, y) -> what was found, best first.

    Equal scores are put in the order of class number and place, so that servers that order them otherwise
    give one answer. Left out: scores under 0.1, and boxes without area once cut to the photo. Raises
    Internal DETECTOR_NONSENSE for numbers that no is_plausible model gives: that is no empty answer.
    """
    if scores.shape != kinds.shape or boxes.shape != (*scores.shape, 4):
        raise _nonsense(f"shapes {scores.shape}, {kinds.shape}, {boxes.shape}")
    if not is_plausible(scores, boxes):
        raise _nonsense("scores outside 0..1, or boxes that are no numbers")
    if kinds.size and not 0 <= kinds.min() <= kinds.max() < len(labels):
        raise _nonsense(f"classes {kinds.min()} to {kinds.max()} of {len(labels)}")
    inside = np.clip(boxes.astype(np.float64), 0, 1).round(DIGITS)
    wide = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    named = np.array([label != UNNAMED for label in labels])[kinds]
    told = np.flatnonzero((scores >= FLOOR) & wide & named)
    order = told[np.lexsort((*inside[told].T, kinds[told], -scores[told]))]
    return [
        RawFinding(rank, labels[kinds[at]], float(scores[at]), tuple(inside[at].tolist()))
        for rank, at in enumerate(order)
    ]


def is_plausible(scores: NDArray[np.float32], boxes: NDArray[np.float32]) -> bool:
    """Whether a model can mean these numbers: one that is computed in too few bits says none at all."""
    return bool(np.isfinite(boxes).all() and (scores >= 0).all() and (scores <= 1).all())


def _nonsense(what: str) -> Internal:
    return Internal(f"the model's answer makes no sense: {what}", "DETECTOR_NONSENSE")
