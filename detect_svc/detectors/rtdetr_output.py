"""RT-DETRv2's raw output as findings, for every server and runtime. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect_svc.detectors.frame_message import Finding
from detect_svc.detectors.model_labels import UNNAMED
from mesh.problems import Internal

# The threshold that RT-DETR's authors use. Not measured here, because no trained weights could be fetched.
THRESHOLD = 0.50
# Chosen, not measured either.
FAST_THRESHOLD = 0.90
# The least score in the raw output. Lower scores are noise at any useful threshold.
MIN_SCORE = 0.1
BOX_DIGITS = 6


def read_findings(
    scores: NDArray[np.float32],
    classes: NDArray[np.int32],
    boxes: NDArray[np.float32],
    labels: Sequence[str],
) -> list[Finding]:
    """[q] scores, [q] class numbers and [q, 4] boxes in 0..1 -> the findings, best first.

    Equal scores are ordered by class number and box, so that the result does not depend on the server's
    order. Scores under MIN_SCORE and boxes that have no area within the photo are left out. Raises Internal
    DETECTOR_NONSENSE for numbers that no working model returns.
    """
    if scores.shape != classes.shape or boxes.shape != (*scores.shape, 4):
        raise _nonsense(f"shapes {scores.shape}, {classes.shape}, {boxes.shape}")
    if not is_plausible(scores, boxes):
        raise _nonsense("scores outside 0..1, or boxes that are not finite")
    if classes.size and not 0 <= classes.min() <= classes.max() < len(labels):
        raise _nonsense(f"class numbers {classes.min()} to {classes.max()}, with {len(labels)} labels")
    clipped = np.clip(boxes.astype(np.float64), 0, 1).round(BOX_DIGITS)
    has_area = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    is_named = np.array([label not in UNNAMED for label in labels])[classes]
    kept = np.flatnonzero((scores >= MIN_SCORE) & has_area & is_named)
    order = kept[np.lexsort((*clipped[kept].T, classes[kept], -scores[kept]))]
    return [
        (labels[number], score, box)
        for number, score, box in zip(
            classes[order].tolist(), scores[order].tolist(), clipped[order].tolist(), strict=True
        )
    ]


def is_plausible(scores: NDArray[np.float32], boxes: NDArray[np.float32]) -> bool:
    """Whether a working model can return these numbers. A model whose layers overflow in FP16 returns NaN."""
    return bool(np.isfinite(boxes).all() and (scores >= 0).all() and (scores <= 1).all())


def _nonsense(message: str) -> Internal:
    return Internal(f"the model's output makes no sense: {message}", "DETECTOR_NONSENSE")
