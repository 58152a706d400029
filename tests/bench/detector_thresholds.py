"""`python -m tests.bench.detector_thresholds`: precision and recall of the embedded detector, by threshold.

The boxes are those of the annotators (COCO, Pascal VOC) or were drawn by hand (below). A finding is right if
its IoU with a box of its class is 0.5 or more; each box counts once. Difficult boxes and crowds are ignored.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from deploy.samples import ANNOTATED, SKIMAGE, SamplePackage, samples
from detect_svc.detectors.boxes import iou_matrix
from detect_svc.detectors.efficientdet import load
from detect_svc.detectors.litert import LiteRtDetector
from lares.detect.v1.detection_pb2 import Frame
from mesh.artifacts import efficientdet_lite0
from mesh.boxes import edges
from mesh.config import WATCHED, load_config
from mesh.labels import canonical

MIN_IOU = 0.5
THRESHOLDS = [0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80]
# Smaller boxes, as a part of the photo's area, are reported separately: 320 x 320 pixels show little of them.
SMALL = 0.01

_TEST_IMAGES = "object_detection/test_images"
MODELS_RESEARCH = SamplePackage(
    "tf-models-research-object-detection==2.5.0.post2",
    "39ec7cfbb978db79ae795d9fc03924e13bc4c47ec6ba7a77b31d5e115d23f673",
    (
        *(f"{_TEST_IMAGES}/image{n}.jpg" for n in (1, 2)),
        *(f"{_TEST_IMAGES}/snapshot_serengeti/S1_E03_R3_PICT00{n}.jpeg" for n in (38, 39, 40, 41)),
        "object_detection/g3doc/img/oid_bus_72e19c28aac34ed8.jpg",
        "deeplab/g3doc/img/image3.jpg",
    ),
    options=("--no-binary=:all:", "--no-build-isolation"),
)


@dataclass(frozen=True)
class Truth:
    """`box` is [x_min, y_min, x_max, y_max] in 0..1. `counts` is False for a box that may be found or not."""

    label: str
    box: tuple[float, float, float, float]
    counts: bool = True

    @property
    def small(self) -> bool:
        return _area(self.box) < SMALL


BY_HAND = {
    "image1.jpg": [
        Truth("dog", (0.03, 0.05, 0.31, 0.85)),
        Truth("dog", (0.40, 0.11, 0.97, 0.94)),
        Truth("person", (0.32, 0.0, 0.72, 0.78), counts=False),
    ],
    "image2.jpg": [
        Truth("person", (0.08, 0.68, 0.125, 0.86)),
        Truth("person", (0.16, 0.77, 0.20, 0.95)),
        Truth("person", (0.0, 0.5, 0.5, 0.66), counts=False),
    ],
    "image3.jpg": [
        Truth("person", (0.03, 0.05, 0.32, 0.97)),
        Truth("person", (0.17, 0.08, 0.48, 0.76)),
        Truth("person", (0.26, 0.55, 0.60, 1.0)),
        Truth("horse", (0.0, 0.48, 1.0, 1.0)),
    ],
    "oid_bus_72e19c28aac34ed8.jpg": [Truth("bus", (0.16, 0.10, 0.93, 0.92))],
    # An aardvark by night, infrared: none of COCO's classes.
    **{f"S1_E03_R3_PICT00{n}.jpeg": [] for n in (38, 39, 40, 41)},
    "astronaut.png": [Truth("person", (0.05, 0.02, 0.72, 1.0))],
    "camera.png": [Truth("person", (0.03, 0.12, 0.64, 1.0))],
    "chelsea.png": [Truth("cat", (0.0, 0.02, 1.0, 1.0))],
    "motorcycle_left.png": [
        Truth("motorcycle", (0.13, 0.18, 0.92, 0.91)),
        Truth("motorcycle", (0.0, 0.22, 0.08, 0.48), counts=False),
    ],
    **{f"{name}.png": [] for name in ("brick", "coffee", "grass", "gravel")},
}


@dataclass(frozen=True)
class RatedFinding:
    """One finding, and whether it is right; None if it is ignored."""

    label: str
    score: float
    right: bool | None
    small: bool


def annotated() -> tuple[dict[str, Path], dict[str, list[Truth]]]:
    """The photos and their boxes, by file name."""
    cache = load_config().cache
    photos = {**samples(cache, ANNOTATED), **samples(cache, SKIMAGE), **samples(cache, MODELS_RESEARCH)}
    return photos, {**_coco(photos), **_voc(photos), **BY_HAND}


def main() -> None:
    config = load_config()
    photos, truths = annotated()
    detect = load(str(efficientdet_lite0(config.cache)), 2, config.ingest_max_pixels)
    watched = WATCHED.split(",")
    rated = [
        finding
        for name, truth in truths.items()
        for finding in rate_findings(detect(str(photos[name])), truth)
    ]
    boxes = [box for truth in truths.values() for box in truth if box.counts and box.label in watched]
    small = sum(box.small for box in boxes)
    print(f"{len(truths)} photos, {len(boxes)} boxes of watched classes, {small} of them small\n")
    for title, labels in (("all watched", watched), ("person", ["person"]), ("all but person", watched[1:])):
        table(
            title,
            [finding for finding in rated if finding.label in labels],
            [b for b in boxes if b.label in labels],
        )
    by_class([finding for finding in rated if finding.label in watched], boxes, LiteRtDetector.threshold)


def rate_findings(frame: bytes, truths: list[Truth]) -> list[RatedFinding]:
    """`frame` is a serialised Frame. Each finding is matched with the free box that it overlaps most."""
    free, rated = list(truths), []
    for found in Frame.FromString(frame).detections:
        label, score, box = found.label, found.score, edges(found.bounding_box)
        best = max((t for t in free if t.label == label), key=lambda t: _iou(box, t.box), default=None)
        if best is not None and _iou(box, best.box) >= MIN_IOU:
            free.remove(best)
            rated.append(RatedFinding(label, score, best.counts or None, best.small))
        else:
            ignored = any(t.label == label and not t.counts and _inside(box, t.box) for t in truths)
            rated.append(RatedFinding(label, score, None if ignored else False, _area(box) < SMALL))
    return rated


def table(title: str, rated: list[RatedFinding], boxes: list[Truth]) -> None:
    large = sum(not box.small for box in boxes)
    print(f"{title}: {len(boxes)} boxes, {large} not small")
    print("threshold  precision  recall  recall (not small)  right  wrong")
    for threshold in THRESHOLDS:
        found = [finding for finding in rated if finding.score >= threshold]
        right, wrong = (
            sum(finding.right is True for finding in found),
            sum(finding.right is False for finding in found),
        )
        seen = sum(finding.right is True and not finding.small for finding in found)
        precision, recall = right / max(1, right + wrong), right / len(boxes)
        print(
            f"{threshold:9.2f}  {precision:9.0%}  {recall:6.0%}  {seen / large:18.0%}  {right:5}  {wrong:5}"
        )
    print()


def by_class(rated: list[RatedFinding], boxes: list[Truth], threshold: float) -> None:
    print(f"by class at {threshold:.2f}: right, wrong, of boxes")
    for label in sorted(
        {finding.label for finding in rated if finding.score >= threshold} | {b.label for b in boxes}
    ):
        found = [finding for finding in rated if finding.label == label and finding.score >= threshold]
        right, wrong = (
            sum(finding.right is True for finding in found),
            sum(finding.right is False for finding in found),
        )
        print(f"  {label:12} {right:3} {wrong:3} {sum(b.label == label for b in boxes):3}")


def _iou(one: Iterable[float], other: Iterable[float]) -> float:
    return float(iou_matrix(np.array([[*one], [*other]], np.float32))[0, 1])


def _inside(box: Sequence[float], region: tuple[float, ...]) -> bool:
    """Whether at least half of the box is in the region."""
    wide = min(box[2], region[2]) - max(box[0], region[0])
    high = min(box[3], region[3]) - max(box[1], region[1])
    return wide > 0 and high > 0 and wide * high >= _area(box) / 2


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _coco(photos: dict[str, Path]) -> dict[str, list[Truth]]:
    content = json.loads(photos["instances_val2017_subset.json"].read_text())
    labels = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    truths: dict[str, list[Truth]] = {image["file_name"]: [] for image in content["images"]}
    for note in content["annotations"]:
        image, (x, y, w, h) = images[note["image_id"]], note["bbox"]
        width, height = image["width"], image["height"]
        box = (x / width, y / height, (x + w) / width, (y + h) / height)
        truths[image["file_name"]].append(Truth(labels[note["category_id"]], box, not note["iscrowd"]))
    return {name: truth for name, truth in truths.items() if name in photos}


def _voc(photos: dict[str, Path]) -> dict[str, list[Truth]]:
    notes = {
        name: ElementTree.fromstring(path.read_bytes())
        for name, path in photos.items()
        if name.endswith(".xml")
    }
    return {name.replace(".xml", ".jpg"): [*_voc_boxes(note)] for name, note in notes.items()}


def _voc_boxes(note: ElementTree.Element) -> Iterable[Truth]:
    width, height = (float(note.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    for item in note.iter("object"):
        edges = [float(item.findtext(f"bndbox/{edge}") or 0) for edge in ("xmin", "ymin", "xmax", "ymax")]
        box = (edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height)
        yield Truth(canonical(item.findtext("name") or ""), box, item.findtext("difficult") != "1")


if __name__ == "__main__":
    main()
