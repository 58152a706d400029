"""EfficientDet-Lite0 on LiteRT. Runs in a sandbox's child only."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from detect_svc.detectors.boxes import Floats, Indices, anchor_grid, decode_boxes, suppress_overlaps
from detect_svc.detectors.frame_message import Finding, frame_message
from detect_svc.detectors.model_labels import UNNAMED, read_model_labels
from detect_svc.detectors.photo_input import Input, decoded

SIDE = 320
ANCHOR_SCALE = 3.0
# The least score in the raw output. Lower scores are noise at any useful threshold.
MIN_SCORE = 0.1
# Candidates that enter non-maximum suppression, and findings that may leave it.
MAX_CANDIDATES, MAX_FINDINGS = 300, 100
# The IoU above which two boxes of one class are one object, and two of different classes.
SAME_CLASS_IOU, ANY_CLASS_IOU = 0.5, 0.85
# How far the shorter side may be stretched. Measured (docs/detector.md): better than no distortion, and than
# filling the square at any distortion.
MAX_STRETCH = 4 / 3


class EfficientDet:
    """One model in memory. Not for concurrent use."""

    def __init__(self, model: Path, threads: int) -> None:
        self.labels = read_model_labels(model)
        self._interpreter = Interpreter(str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        outputs = {
            details["shape"][-1]: details["index"] for details in self._interpreter.get_output_details()
        }
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._scores, self._offsets = outputs[len(self.labels)], outputs[4]
        self._anchors = anchor_grid(SIDE, ANCHOR_SCALE)

    def detect(self, pixels: NDArray[np.uint8]) -> list[Finding]:
        """[h, w, 3] RGB of any size -> the findings, best first.

        At most MAX_FINDINGS, with scores of MIN_SCORE or more. Equal scores are in the order of the anchors.
        """
        canvas, extent = fit(pixels)
        scores, boxes, classes = self._candidates(canvas)
        kept = suppress_overlaps(boxes, classes, SAME_CLASS_IOU, ANY_CLASS_IOU)[:MAX_FINDINGS]
        inside = np.clip(boxes[kept] / extent, 0, 1)
        return [
            (self.labels[number], score, [round(edge, 6) for edge in box])
            for number, score, box in zip(
                classes[kept].tolist(), scores[kept].tolist(), inside.tolist(), strict=True
            )
        ]

    def _candidates(self, canvas: NDArray[np.uint8]) -> tuple[Floats, Floats, Indices]:
        """Scores, boxes and class numbers of the best candidates, best first."""
        self._interpreter.set_tensor(self._input, canvas[None])
        self._interpreter.invoke()
        # Views into the interpreter's memory: valid until the next call.
        scores = self._interpreter.tensor(self._scores)().reshape(-1)
        above = np.flatnonzero(scores >= MIN_SCORE)
        best = above[np.argsort(-scores[above], kind="stable")][:MAX_CANDIDATES]
        anchors, classes = np.divmod(best, len(self.labels))
        named = np.array([self.labels[number] not in UNNAMED for number in classes], dtype=bool)
        best, anchors, classes = best[named], anchors[named], classes[named]
        offsets = self._interpreter.tensor(self._offsets)()[0][anchors]
        return scores[best], decode_boxes(offsets, self._anchors[anchors]), classes


def fit(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Floats]:
    """Scales the picture into the upper left of a black square, stretching its shorter side by up to
    MAX_STRETCH if that fills more of the square. Returns the square, and the part of it that is filled
    ([x, y, x, y] in 0..1)."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    inner = (_stretched(width * scale), _stretched(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(pixels, inner, interpolation=interpolation)
    return canvas, np.array([*inner, *inner], np.float32) / np.float32(SIDE)


def _stretched(length: float) -> int:
    return max(1, min(SIDE, round(length * MAX_STRETCH)))


def load(model: str, threads: int, max_pixels: int) -> Callable[[Input], bytes]:
    """The sandbox's target. Returns a function of an Input, which returns a serialised Frame and raises what
    `decoded` raises."""
    cv2.setNumThreads(1)
    detector = EfficientDet(Path(model), threads)

    def detect(photo: Input) -> bytes:
        seen = decoded(photo, SIDE, max_pixels)
        findings = detector.detect(seen.pixels)
        return frame_message(seen.width, seen.height, findings).SerializeToString()

    return detect
