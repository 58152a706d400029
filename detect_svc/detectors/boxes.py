"""Geometry of anchor-based detectors, vectorised. Boxes are [x_min, y_min, x_max, y_max]. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

LEVELS = range(3, 8)
SCALES_PER_LEVEL = 3
ASPECTS = (1.0, 2.0, 0.5)


def anchor_grid(size: int, scale: float) -> Floats:
    """[n, 4]: centre y, centre x, height, width, in units of the input's side `size` (pixels).

    EfficientDet's grid: levels 3 to 7, at each place 3 scales x 3 aspects; level, row, column, scale, aspect
    vary in this order, the last one fastest. `scale` is the model's anchor_scale (Lite0: 3.0).
    Source: google/automl, efficientdet/tf2/anchors.py.
    """
    return np.concatenate([_level(size, level, scale) for level in LEVELS]).astype(np.float32)


def _level(size: int, level: int, scale: float) -> NDArray[np.float64]:
    cells = size
    for _ in range(level):
        cells = (cells + 1) // 2
    stride = 1 / cells
    centres = (np.arange(cells) + 0.5) * stride
    octaves = 2.0 ** (np.arange(SCALES_PER_LEVEL) / SCALES_PER_LEVEL)
    roots = np.sqrt(ASPECTS)
    heights = (scale * stride * octaves[:, None] / roots).ravel()
    widths = (scale * stride * octaves[:, None] * roots).ravel()
    y, x, shape = np.meshgrid(centres, centres, np.arange(len(heights)), indexing="ij")
    return np.stack([y, x, heights[shape], widths[shape]], axis=-1).reshape(-1, 4)


def decode_boxes(offsets: Floats, anchors: Floats) -> Floats:
    """[n, 4] boxes from the model's [n, 4] offsets (y, x, log height, log width) and their anchors."""
    centre = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(offsets[:, 2:]) * anchors[:, 2:] / 2
    low, high = centre - half, centre + half
    return np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], axis=1)


def iou_matrix(boxes: Floats) -> Floats:
    """[n, n] intersection over union of every two of [n, 4]; 0 where both are empty."""
    x_min, y_min, x_max, y_max = boxes.T
    wide = np.minimum.outer(x_max, x_max) - np.maximum.outer(x_min, x_min)
    high = np.minimum.outer(y_max, y_max) - np.maximum.outer(y_min, y_min)
    shared: Floats = np.maximum(wide, 0) * np.maximum(high, 0)
    area = (x_max - x_min) * (y_max - y_min)
    union = np.add.outer(area, area) - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def suppress_overlaps(boxes: Floats, classes: Indices, same_class: float, any_class: float) -> Indices:
    """Non-maximum suppression: the indices of those, in the order given (best first), that overlap no
    better one by more than `any_class`, and none of their own class by more than `same_class`."""
    shared = iou_matrix(boxes)
    rivals = (shared > any_class) | (shared > same_class) & (classes[:, None] == classes[None, :])
    kept = np.ones(len(boxes), dtype=bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~rivals[index, index + 1 :]
    return np.flatnonzero(kept)
