"""EfficientDet-Lite0 on LiteRT. Runs in a sandbox's child only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from detect_svc.detectors.boxes import Floats, Indices, anchor_grid, decode_boxes, suppress_overlaps
from detect_svc.detectors.coco_labels import UNNAMED, read_model_labels
from detect_svc.frames.decoding import content_of, decode

SIDE = 320
ANCHOR_SCALE = 3.0
# The least score in the raw output. Lower ones are noise at any threshold that makes sense.
FLOOR = 0.1
# Candidates that enter suppression, and what may leave it.
MAX_CANDIDATES, MAX_FOUND = 300, 100
# Overlap above which two findings of one class are one object, and two of different classes.
SAME_OBJECT, SAME_PLACE = 0.5, 0.85
# Measured (docs/detector.md): better than no distortion, and than filling the square whatever it takes.
STRETCH = 4 / 3


class EfficientDet:
    """One model in memory, one image a call."""

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

    def detect(self, pixels: NDArray[np.uint8]) -> list[tuple[str, float, list[float]]]:
        """[h, w, 3] RGB of any size -> (label, score 0..1, box normalised to 0..1), best first.

        At most 100, with scores of 0.1 and more; equal scores come in the order of the anchors.
        """
        canvas, extent = fitted(pixels)
        scores, boxes, classes = self._candidates(canvas)
        kept = suppress_overlaps(boxes, classes, SAME_OBJECT, SAME_PLACE)[:MAX_FOUND]
        inside = np.clip(boxes[kept] / extent, 0, 1)
        return [
            (self.labels[kind], float(score), [round(float(edge), 6) for edge in box])
            for kind, score, box in zip(classes[kept], scores[kept], inside, strict=True)
        ]

    def _candidates(self, canvas: NDArray[np.uint8]) -> tuple[Floats, Floats, Indices]:
        self._interpreter.set_tensor(self._input, canvas[None])
        self._interpreter.invoke()
        # Views into the interpreter's memory: read before the next call, never kept.
        scores = self._interpreter.tensor(self._scores)().reshape(-1)
        found = np.flatnonzero(scores >= FLOOR)
        best = found[np.argsort(-scores[found], kind="stable")][:MAX_CANDIDATES]
        places, classes = np.divmod(best, len(self.labels))
        named = np.array([self.labels[kind] != UNNAMED for kind in classes], dtype=bool)
        best, places, classes = best[named], places[named], classes[named]
        offsets = self._interpreter.tensor(self._offsets)()[0][places]
        return scores[best], decode_boxes(offsets, self._anchors[places]), classes


def fitted(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Floats]:
    """The picture scaled into the upper left of a black square, and the part of the square that it fills
    ([x, y, x, y], 0..1). Its shorter side is drawn longer, by up to a third, where that fills more of it."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    inner = (_side(width * scale), _side(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(pixels, inner, interpolation=way)
    return canvas, np.array([*inner, *inner], np.float32) / np.float32(SIDE)


def _side(length: float) -> int:
    return max(1, min(SIDE, round(length * STRETCH)))


def load(model: str, threads: int, max_pixels: int) -> Callable[[bytes | str], dict[str, Any]]:
    """The sandbox's target: what it returns takes a photo's content, or the path where it lies.

    Refuses what `decode` refuses, and BLOB_NOT_FOUND where nothing lies at the path.
    """
    cv2.setNumThreads(1)
    detector = EfficientDet(Path(model), threads)

    def detect(photo: bytes | str) -> dict[str, Any]:
        picture = decode(content_of(photo), SIDE, max_pixels)
        return {"found": detector.detect(picture.pixels), "width": picture.width, "height": picture.height}

    return detect
