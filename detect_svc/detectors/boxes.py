"""Geometry of anchor-based detectors, vectorised. A box is [x_min, y_min, x_max, y_max]. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

LEVELS = range(3, 8)
SCALES_PER_LEVEL = 3
ASPECTS = (1.0, 2.0, 0.5)


def anchor_grid(side: int, scale: float) -> Floats:
    """EfficientDet's anchors, [n, 4]: centre y, centre x, height, width, in units of the input's side.

    `side` is in pixels; `scale` is the model's anchor_scale (Lite0: 3.0). Levels 3 to 7 have 3 scales and 3
    aspects in each cell. The order is level, row, column, scale, aspect, with the last one varying fastest.
    Source: google/automl, efficientdet/tf2/anchors.py.
    """
    return np.concatenate([_level(side, level, scale) for level in LEVELS]).astype(np.float32)


def _level(side: int, level: int, scale: float) -> NDArray[np.float64]:
    cells = side
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
    """[n, n]: the intersection over union of each pair of [n, 4] boxes; 0 if both are empty."""
    x_min, y_min, x_max, y_max = boxes.T
    width = np.minimum.outer(x_max, x_max) - np.maximum.outer(x_min, x_min)
    height = np.minimum.outer(y_max, y_max) - np.maximum.outer(y_min, y_min)
    intersection: Floats = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x_max - x_min) * (y_max - y_min)
    union = np.add.outer(area, area) - intersection
    iou: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def suppress_overlaps(boxes: Floats, classes: Indices, same_class: float, any_class: float) -> Indices:
    """Non-maximum suppression of `boxes`, which are ordered best first. Returns the indices that are kept.

    A box is dropped if its IoU with a better one that is kept exceeds `same_class` for the same class, or
    `any_class` for another class.
    """
    iou = iou_matrix(boxes)
    suppresses = (iou > any_class) | (iou > same_class) & (classes[:, None] == classes[None, :])
    kept = np.ones(len(boxes), dtype=bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~suppresses[index, index + 1 :]
    return np.flatnonzero(kept)
