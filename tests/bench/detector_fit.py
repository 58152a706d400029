"""`python -m tests.bench.detector_fit`: how to fit a photo into the detector's square.

Prints the average precision over the watched classes, for the annotated photos as they are and cut to 16:9,
the format of most cameras, with proportions kept, distorted by up to a third, and filling the square.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from detect_svc.detectors import efficientdet
from mesh.artifacts import efficientdet_lite0
from mesh.config import WATCHED, load_config
from tests.bench.detector_thresholds import RatedFinding, Truth, annotated, rate_findings

FITS = {"proportions kept": 1.0, "distorted by up to a third": 4 / 3, "square filled": 1e9}
ASPECT = 16 / 9
# The part of a cut object that must be left for it to count.
MIN_LEFT = 0.4


def main() -> None:
    config = load_config()
    photos, truths = annotated()
    whole = [(photos[name].read_bytes(), truth) for name, truth in truths.items()]
    sets = {"as they are": whole, "cut to 16:9": [cut for one in whole for cut in cuts(*one)]}
    detect = efficientdet.load(str(efficientdet_lite0(config.cache)), 2, config.ingest_max_pixels)
    for title, scenes in sets.items():
        for fit, stretch in FITS.items():
            efficientdet.MAX_STRETCH = stretch
            rated = [finding for photo, truth in scenes for finding in rate_findings(detect(photo), truth)]
            boxes = [
                box for _, truth in scenes for box in truth if box.counts and box.label in WATCHED.split(",")
            ]
            print(f"{title} ({len(scenes)}), {fit}: {average_precision(rated, len(boxes)):.3f}")


def average_precision(rated: list[RatedFinding], boxes: int) -> float:
    counted = [
        finding for finding in rated if finding.right is not None and finding.label in WATCHED.split(",")
    ]
    right = np.array(
        [finding.right for finding in sorted(counted, key=lambda finding: -finding.score)], dtype=float
    )
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * right).sum() / boxes)


def cuts(photo: bytes, truth: list[Truth]) -> Iterator[tuple[bytes, list[Truth]]]:
    """The upper, middle and lower 16:9 part of a photo; nothing if the photo is too tall."""
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    height, width = pixels.shape[:2]
    kept = min(height, round(width / ASPECT))
    if kept < 0.3 * height:
        return
    for top in sorted({0, (height - kept) // 2, height - kept}):
        _, png = cv2.imencode(".png", pixels[top : top + kept])
        yield png.tobytes(), [moved for box in truth if (moved := _moved(box, top / height, kept / height))]


def _moved(truth: Truth, top: float, kept: float) -> Truth | None:
    x_min, y_min, x_max, y_max = truth.box
    upper, lower = max(0.0, (y_min - top) / kept), min(1.0, (y_max - top) / kept)
    if lower <= upper:
        return None
    left = (lower - upper) * kept / (y_max - y_min)
    return Truth(truth.label, (x_min, upper, x_max, lower), truth.counts and left > MIN_LEFT)


if __name__ == "__main__":
    main()
