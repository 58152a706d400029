"""MediaDetected of versions without frames, in which detect_svc filtered: the code of commit 09640b9.

It must not change, because detections that counted then must count now.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from detect_svc.detectors.detector import Detector, detector_id
from lares.detect.v1.detection_pb2 import Detection, Frame, FrameDetection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import Media
from mesh.boxes import edges
from mesh.config import Config
from mesh.identity import detection_id
from mesh.labels import canonical

EVERY_OTHER = "*"


@dataclass(frozen=True)
class Filter:
    """The rule of one process. Labels are canonical. A camera's own thresholds are passed with each call."""

    watched: Sequence[str]
    thresholds: Mapping[str, float]  # least score by watched label
    fast_classes: Collection[str]
    fast_threshold: float

    @classmethod
    def of(cls, config: Config, detector: Detector) -> Self:
        watched = list(dict.fromkeys(map(canonical, config.watch_classes)))
        by_class = {canonical(name): score for name, score in config.watch_thresholds.items()}
        usual = detector.threshold if config.watch_threshold is None else config.watch_threshold
        fast = config.watch_fast_threshold
        return cls(
            watched=watched,
            thresholds={label: by_class.get(label, usual) for label in watched},
            fast_classes=frozenset(map(canonical, config.watch_fast_classes)),
            fast_threshold=detector.fast_threshold if fast is None else fast,
        )

    def kept(self, found: Iterable[FrameDetection], camera: Mapping[str, float]) -> list[FrameDetection]:
        """In the order given. `camera`: its own least scores by label, `*` for every other; it wins."""
        own = {canonical(label): score for label, score in camera.items()}
        thresholds = {
            label: own.get(label, own.get(EVERY_OTHER, usual)) for label, usual in self.thresholds.items()
        }
        return [one for one in found if one.label in thresholds and one.score >= thresholds[one.label]]

    def urgent(self, kept: Iterable[FrameDetection]) -> bool:
        """Whether one of them should be judged at once."""
        return any(one.label in self.fast_classes and one.score >= self.fast_threshold for one in kept)


def filtered(
    media: Media, frame: Frame, detector: Detector, config: Config, camera: Mapping[str, float]
) -> MediaDetected:
    """What detect_svc would have published. `camera`: its own thresholds, as its message has them."""
    rule = Filter.of(config, detector)
    kept = rule.kept(frame.detections, camera)
    name = detector_id(detector)
    return MediaDetected(
        media=media,
        detections=[
            Detection(
                id=detection_id(media.id, 0, one.rank, name),
                label=one.label,
                score=one.score,
                box=edges(one.bounding_box),
                frame=0,
            )
            for one in kept
        ],
        detector=name,
        urgent=rule.urgent(kept),
        detected_at=media.ingested_at,
    )
