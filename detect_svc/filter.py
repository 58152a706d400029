"""Which of a detector's findings are told: watched classes at or above their thresholds. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from detect_svc.detector import Detector, Found
from mesh.config import Config
from mesh.labels import canonical
from mesh.problems import Invalid

EVERY_OTHER = "*"


@dataclass(frozen=True)
class Filter:
    """The rule of one process. Labels are canonical; a camera's own thresholds come with each call."""

    watched: Sequence[str]
    thresholds: Mapping[str, float]  # least score by watched label
    fast_classes: Collection[str]
    fast_threshold: float

    @classmethod
    def of(cls, config: Config, detector: Detector) -> Self:
        """Raises Invalid UNKNOWN_CLASS for a class the detector cannot find: at start, not in silence."""
        watched = _known("LARES_DETECT_CLASSES", config.detect_classes, detector)
        _known("LARES_DETECT_THRESHOLDS", config.detect_thresholds, detector)
        by_class = {canonical(name): score for name, score in config.detect_thresholds.items()}
        usual = detector.threshold if config.detect_threshold is None else config.detect_threshold
        fast = config.detect_fast_threshold
        return cls(
            watched=watched,
            thresholds={label: by_class.get(label, usual) for label in watched},
            fast_classes=frozenset(_known("LARES_DETECT_FAST_CLASSES", config.detect_fast_classes, detector)),
            fast_threshold=detector.fast_threshold if fast is None else fast,
        )

    def kept(self, found: Iterable[Found], camera: Mapping[str, float]) -> list[Found]:
        """In the order given. `camera`: its own least scores by label, `*` for every other; it wins."""
        own = {canonical(label): score for label, score in camera.items()}
        thresholds = {
            label: own.get(label, own.get(EVERY_OTHER, usual)) for label, usual in self.thresholds.items()
        }
        return [one for one in found if one.label in thresholds and one.score >= thresholds[one.label]]

    def urgent(self, kept: Iterable[Found]) -> bool:
        """Whether one of them should be judged at once."""
        return any(one.label in self.fast_classes and one.score >= self.fast_threshold for one in kept)


def _known(setting: str, names: Iterable[str], detector: Detector) -> list[str]:
    """Canonical and without repetitions, in the order given."""
    labels = list(dict.fromkeys(map(canonical, names)))
    unknown = [label for label in labels if label not in detector.labels]
    if unknown:
        known = ", ".join(detector.labels)
        raise Invalid(
            f"{setting}: {detector.name} cannot find {', '.join(unknown)}; it finds {known}", "UNKNOWN_CLASS"
        )
    return labels
