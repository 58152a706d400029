"""The motion gate: how much has moved from one look at a clip to the next.

It works on small pictures of the brightness, in integers only, so that it finds the same on every machine. A
change counts where it is larger than the noise of the whole picture and not alone: light that changes
everywhere, noise, rain and snow move nothing. Each look is compared with the one before and with the
background, which follows slowly: so somebody who comes and stands still counts for a while, too.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Luma: TypeAlias = NDArray[np.uint8]  # [h, w]
Levels: TypeAlias = NDArray[np.int16]  # [h, w], of 256

LONGEST, SHORTEST = 160, 90
# How far a pixel's brightness must change, in levels of 256: so much divided by the sensitivity, and at least
# so many times the median of all changes, which is the noise's.
LEAST_CHANGE, NOISES = 5, 4
# A change counts where there is a square of nine pixels of which so many have changed: a streak of rain is
# too narrow for one.
MIN_OF_NINE = 7
# What differs from the background nearly everywhere, or in a large part that has stopped moving, is other
# light: it becomes the background.
OTHER_LIGHT_LEVELS, OTHER_LIGHT_SHARE = 10, 0.3


def shrunk(luma: Luma) -> Luma:
    """The averages of squares of pixels, rounded down: at most 160 x 90 of them, or 90 x 160."""
    height, width = luma.shape
    longest, shortest = max(height, width), min(height, width)
    side = max(1, -(-longest // LONGEST), -(-shortest // SHORTEST))
    rows, columns = max(1, height // side), max(1, width // side)
    squares = luma[: rows * side, : columns * side].reshape(rows, -1, columns, min(side, width))
    # First along the columns, where numpy is fastest.
    sums = squares.sum(axis=1, dtype=np.uint32).sum(axis=2, dtype=np.uint32)
    return np.asarray(sums // (squares.shape[1] * squares.shape[3]), np.uint8)


class MotionGate:
    """Sees the looks at one clip in order. `sensitivity` is LARES_MOTION_SENSITIVITY."""

    def __init__(self, sensitivity: float) -> None:
        self._least_change = round(LEAST_CHANGE / sensitivity)
        self._previous: Levels | None = None
        self._background: Levels | None = None

    def look(self, luma: Luma) -> float:
        """Returns the share of the picture in which something has moved, 0..1. `luma` is of any size."""
        seen = shrunk(luma).astype(np.int16)
        if self._previous is None or self._background is None or self._previous.shape != seen.shape:
            self._previous = self._background = seen
            return 0.0
        moved, noise = self._changed(self._previous, seen)
        left, unrest = self._changed(self._background, seen)
        self._previous = seen
        if left - moved > OTHER_LIGHT_SHARE or (unrest >= OTHER_LIGHT_LEVELS and unrest > 2 * noise + 2):
            self._background, left = seen, 0.0
        else:
            self._background = self._background + np.sign(seen - self._background)
        return max(moved, left)

    def _changed(self, before: Levels, seen: Levels) -> tuple[float, int]:
        """The share of the picture that has changed, and the median of all changes."""
        change = seen - before
        size = np.abs(change - _median(change))
        noise = _median(size)
        is_changed = (size > max(self._least_change, NOISES * noise)).astype(np.int8)
        is_core = (_of_nine(is_changed) >= MIN_OF_NINE).astype(np.int8)
        counts = (_of_nine(is_core) > 0) & (is_changed > 0)
        return int(np.count_nonzero(counts)) / counts.size, noise

    def state(self) -> dict[str, Any]:
        """What another gate needs to go on where this one stopped."""
        if self._previous is None or self._background is None:
            return {}
        return {
            "shape": list(self._previous.shape),
            "previous": self._previous.astype(np.uint8).tobytes(),
            "background": self._background.astype(np.uint8).tobytes(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self._previous, self._background = (
                np.frombuffer(state[name], np.uint8).reshape(state["shape"]).astype(np.int16)
                for name in ("previous", "background")
            )


def _median(values: Levels) -> int:
    """The lower one of the two in the middle."""
    middle = (values.size - 1) // 2
    return int(np.partition(values, middle, axis=None)[middle])


def _of_nine(changed: NDArray[np.int8]) -> NDArray[np.int8]:
    """Of each pixel, how many of the nine around it, it among them, are set."""
    padded = np.pad(changed, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:], np.int8)
