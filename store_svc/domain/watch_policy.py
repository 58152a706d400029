"""The watch policy: which findings of the detector count, and why the others do not. Pure.

A policy is made of the settings, of one camera's configuration and of the detector's own thresholds. The
store applies it when it records a media; previews and replays use the same code. Shapes and boxes are
normalised to 0..1 of the upright picture.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias, TypeVar

from mesh.labels import canonical

T = TypeVar("T")

EVERY_OTHER = "*"
# Part of every digest. Change it with the code, where the same values decide otherwise.
VERSION = "watch/v1"

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]


class Decision(IntEnum):
    """The numbers of lares.store.v1.PolicyDecision."""

    KEPT = 1
    NOT_WATCHED = 2
    BELOW_THRESHOLD = 3
    SIZE = 4
    MASKED = 5


class Finding(NamedTuple):
    """One object in the raw output of one frame: `label` is canonical, `score` 0..1, `box` x_min, y_min,
    x_max, y_max."""

    rank: int
    label: str
    score: float
    box: Box

    @property
    def foot(self) -> Point:
        """The middle of the box's lower edge: where the object touches the ground."""
        return (self.box[0] + self.box[2]) / 2, self.box[3]

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What becomes of one finding. `zones` are the ids of those that hold its foot point, ascending; none
    where it is not kept."""

    decision: Decision
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SizeFilter:
    """The least and the most area of a box, both inclusive."""

    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True, slots=True)
class Polygon:
    """At least three corners, in order; it may be concave. Its edges and corners belong to it."""

    corners: tuple[Point, ...]

    def contains(self, point: Point) -> bool:
        """By the even-odd rule."""
        x, y = point
        inside = False
        before_x, before_y = self.corners[-1]
        for here_x, here_y in self.corners:
            side = (here_x - before_x) * (y - before_y) - (here_y - before_y) * (x - before_x)
            if (
                side == 0
                and min(before_x, here_x) <= x <= max(before_x, here_x)
                and min(before_y, here_y) <= y <= max(before_y, here_y)
            ):
                return True
            # The edge crosses the point's height, and does so to the right of it.
            if (before_y > y) != (here_y > y) and (side > 0) == (here_y > before_y):
                inside = not inside
            before_x, before_y = here_x, here_y
        return inside


@dataclass(frozen=True, slots=True)
class Zone:
    id: str
    area: Polygon


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What the settings `LARES_WATCH_*` say, for all cameras. Thresholds are least scores; None means the
    detector's own."""

    labels: Sequence[str]
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    fast_labels: Sequence[str] = ("person",)
    fast_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class CameraWatch:
    """What one camera's configuration says. `thresholds` and `sizes` go by label, `*` for every other one;
    its thresholds win over those of the settings."""

    thresholds: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, SizeFilter] = field(default_factory=dict)
    masks: Sequence[Polygon] = ()
    zones: Sequence[Zone] = ()


@dataclass(frozen=True, slots=True)
class ModelThresholds:
    """The detector's own least scores, which hold where nothing else is configured."""

    threshold: float
    fast_threshold: float


_NOT_WATCHED = PolicyResult(Decision.NOT_WATCHED)
_BELOW_THRESHOLD = PolicyResult(Decision.BELOW_THRESHOLD)
_SIZE = PolicyResult(Decision.SIZE)
_MASKED = PolicyResult(Decision.MASKED)
_KEPT = PolicyResult(Decision.KEPT)


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """Everything that decides about one camera's findings. `thresholds` and `sizes` hold what is in force of
    each watched label. Two policies with the same `digest` decide alike."""

    thresholds: Mapping[str, float]
    fast_labels: frozenset[str]
    fast_threshold: float
    sizes: Mapping[str, SizeFilter]
    masks: Sequence[Polygon]
    zones: Sequence[Zone]
    digest: str

    @classmethod
    def of(cls, settings: WatchSettings, camera: CameraWatch, model: ModelThresholds) -> "WatchPolicy":
        usual = model.threshold if settings.threshold is None else settings.threshold
        by_label = _canonical(settings.thresholds)
        # Cameras are configured in floats of 32 bits, as scores are; settings are not.
        own = {label: _single(score) for label, score in _canonical(_sorted(camera.thresholds)).items()}
        labels = sorted(set(map(canonical, settings.labels)))
        sizes = _canonical(_sorted(camera.sizes))
        fast = model.fast_threshold if settings.fast_threshold is None else settings.fast_threshold
        decides = {
            "thresholds": {
                label: own.get(label, own.get(EVERY_OTHER, by_label.get(label, usual))) for label in labels
            },
            "fast_labels": frozenset(map(canonical, settings.fast_labels)).intersection(labels),
            "fast_threshold": fast,
            "sizes": {label: size for label in labels if (size := sizes.get(label, sizes.get(EVERY_OTHER)))},
            "masks": tuple(camera.masks),
            "zones": tuple(sorted(camera.zones, key=lambda zone: zone.id)),
        }
        return cls(**decides, digest=_digest(**decides))  # type: ignore[arg-type]

    def decide(self, finding: Finding) -> PolicyResult:
        least = self.thresholds.get(finding.label)
        if least is None:
            return _NOT_WATCHED
        if not finding.score >= least:
            return _BELOW_THRESHOLD
        size = self.sizes.get(finding.label)
        if size is not None and not size.least <= finding.area <= size.most:
            return _SIZE
        if not self.masks and not self.zones:
            return _KEPT
        foot = finding.foot
        if any(mask.contains(foot) for mask in self.masks):
            return _MASKED
        return PolicyResult(Decision.KEPT, tuple(zone.id for zone in self.zones if zone.area.contains(foot)))

    def is_fast(self, kept: Finding) -> bool:
        """Whether a kept finding makes its event due at once."""
        return kept.label in self.fast_labels and kept.score >= self.fast_threshold


def unknown_labels(settings: WatchSettings, known: Sequence[str]) -> dict[str, list[str]]:
    """By the name of the setting, the labels in it that a detector which finds only `known` cannot find."""
    named = {
        "watch_classes": settings.labels,
        "watch_thresholds": settings.thresholds,
        "watch_fast_classes": settings.fast_labels,
    }
    unknown = {
        name: [label for label in dict.fromkeys(map(canonical, labels)) if label not in known]
        for name, labels in named.items()
    }
    return {name: labels for name, labels in unknown.items() if labels}


def _canonical(by_label: Mapping[str, T]) -> dict[str, T]:
    """By canonical label. Of two names for one label, the later one wins."""
    return {canonical(label): value for label, value in by_label.items()}


def _sorted(by_label: Mapping[str, T]) -> dict[str, T]:
    """A camera's map comes in no order of its own."""
    return {label: by_label[label] for label in sorted(by_label)}


def _single(score: float) -> float:
    """The nearest float of 32 bits."""
    single: float = struct.unpack("<f", struct.pack("<f", score))[0]
    return single


def _digest(
    thresholds: Mapping[str, float],
    fast_labels: frozenset[str],
    fast_threshold: float,
    sizes: Mapping[str, SizeFilter],
    masks: Sequence[Polygon],
    zones: Sequence[Zone],
) -> str:
    """Hex SHA-256."""
    whole = {
        "version": VERSION,
        "thresholds": thresholds,
        "fast_labels": sorted(fast_labels),
        "fast_threshold": fast_threshold,
        "sizes": {label: [size.least, size.most] for label, size in sizes.items()},
        "masks": sorted(mask.corners for mask in masks),
        "zones": [[zone.id, zone.area.corners] for zone in zones],
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
