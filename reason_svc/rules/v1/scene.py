"""What the detections of one event add up to: which classes, how many, for how long, and when."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.reasoner import MAX_DETECTION_IDS
from reason_svc.rules.v1.weights import CLASSES, OTHER, ObjectKind, part_of_day


@dataclass(frozen=True, slots=True)
class DetectedClass:
    """All detections of one class, best first.

    `in_one_photo` are those of the photo that shows the most of them. They are what counts, because the same
    person in two photos is one person.
    """

    label: str
    kind: ObjectKind
    points: int
    detections: tuple[EvidenceDetection, ...]
    in_one_photo: tuple[EvidenceDetection, ...]

    @property
    def count(self) -> int:
        return len(self.in_one_photo)

    @property
    def first(self) -> EvidenceDetection:
        return min(self.detections, key=lambda d: (d.captured_at, d.id))

    @property
    def last(self) -> EvidenceDetection:
        return max(self.detections, key=lambda d: (d.captured_at, d.id))

    @property
    def seconds(self) -> float:
        """From the first photo to the last."""
        return (self.last.captured_at - self.first.captured_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Scene:
    """`classes` are sorted by points, highest first. `local_time` is when the first one was first seen."""

    classes: tuple[DetectedClass, ...]
    local_time: datetime

    @property
    def main(self) -> DetectedClass:
        return self.classes[0]

    @property
    def part_of_day(self) -> str:
        return part_of_day(self.local_time.time())


def read_scene(evidence: Evidence) -> Scene:
    """The order of the detections makes no difference."""
    by_label: dict[str, list[EvidenceDetection]] = defaultdict(list)
    for detection in evidence.detections:
        by_label[detection.label].append(detection)
    classes = sorted(
        (_detected_class(label, detections) for label, detections in by_label.items()),
        key=lambda detected: (-detected.points, detected.label),
    )
    return Scene(tuple(classes), classes[0].first.captured_at.astimezone(evidence.time_zone))


def detection_ids(detections: tuple[EvidenceDetection, ...]) -> tuple[str, ...]:
    """The ids of the first MAX_DETECTION_IDS detections, each once."""
    return tuple(dict.fromkeys(detection.id for detection in detections))[:MAX_DETECTION_IDS]


def _detected_class(label: str, detections: list[EvidenceDetection]) -> DetectedClass:
    best_first = sorted(detections, key=lambda d: (-d.score, d.captured_at, d.media_id, d.id))
    photos: dict[tuple[str, datetime], list[EvidenceDetection]] = defaultdict(list)
    for detection in best_first:
        photos[detection.media_id, detection.captured_at].append(detection)
    _, in_one_photo = min(photos.items(), key=lambda photo: (-len(photo[1]), photo[0][1], photo[0][0]))
    kind, points = CLASSES.get(label, OTHER)
    return DetectedClass(label, kind, points, tuple(best_first), tuple(in_one_photo))
