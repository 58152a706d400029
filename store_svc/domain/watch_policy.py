"""The watch policy decides which findings of the detector count, and why the others do not. Pure.

A policy is built from the settings, one camera's configuration and the detector's own thresholds. The store
applies it when it records a media; previews and replays use the same code. Coordinates are normalised to 0..1
of the upright picture.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import IntEnum
from math import inf
from typing import NamedTuple

from mesh.labels import by_canonical, canonical
from mesh.scene.geometry import Box, Point, Polygon, foot_point

# In a map by label, stands for every label that the map does not name.
EVERY_OTHER = "*"
# Part of every digest. Change it if a change of the code makes the same values decide differently.
VERSION = "watch/v1"


class Decision(IntEnum):
    """The numbers of lares.store.v1.PolicyDecision."""

    KEPT = 1
    NOT_WATCHED = 2
    BELOW_THRESHOLD = 3
    SIZE = 4
    MASKED = 5


class Finding(NamedTuple):
    """One object in the detector's raw output for one frame.

    `label` is canonical, `score` is in 0..1, and `box` is x_min, y_min, x_max, y_max.
    """

    rank: int
    label: str
    score: float
    box: Box

    @property
    def foot(self) -> Point:
        return foot_point(self.box)

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class PolicyResult(NamedTuple):
    """The decision about one finding.

    `zones` are the ids of the zones that contain its foot point, in ascending order; empty if it is not kept.
    """

    decision: Decision
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SizeFilter:
    """The smallest and the largest box that counts, all inclusive: its area, as a share of the picture's, and
    its aspect, the width divided by the height, in pixels."""

    min_area: float = 0.0
    max_area: float = 1.0
    min_aspect: float = 0.0
    max_aspect: float = inf

    def fits(self, finding: Finding, picture_aspect: float) -> bool:
        """`picture_aspect` is the picture's width divided by its height; 0 if that is not known: then every
        aspect fits."""
        if not self.min_area <= finding.area <= self.max_area:
            return False
        x_min, y_min, x_max, y_max = finding.box
        width, height = (x_max - x_min) * picture_aspect, y_max - y_min
        return not picture_aspect or self.min_aspect * height <= width <= self.max_aspect * height


@dataclass(frozen=True, slots=True)
class Zone:
    id: str
    area: Polygon


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """The settings `LARES_WATCH_*`, which apply to all cameras.

    Thresholds are the lowest scores that count. None means the detector's own threshold.
    """

    labels: Sequence[str]
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    fast_labels: Sequence[str] = ("person",)
    fast_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class CameraWatch:
    """What one camera's configuration says about its findings.

    `thresholds` and `sizes` are by label, with `*` for every other label. These thresholds override those of
    the settings.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, SizeFilter] = field(default_factory=dict)
    masks: Sequence[Polygon] = ()
    zones: Sequence[Zone] = ()


@dataclass(frozen=True, slots=True)
class ModelThresholds:
    """The detector's own thresholds, which apply where nothing else is configured."""

    threshold: float
    fast_threshold: float


# Looking up the members of an enumeration would take most of the time of a decision.
_NOT_WATCHED, _BELOW_THRESHOLD, _MAY_COUNT = Decision.NOT_WATCHED, Decision.BELOW_THRESHOLD, Decision.KEPT
_SIZE, _MASKED, _KEPT = map(PolicyResult, (Decision.SIZE, Decision.MASKED, Decision.KEPT))


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """Everything that decides about one camera's findings.

    `thresholds` has every watched label; `sizes` has those with a size filter. Two policies with the same
    `digest` make the same decisions.
    """

    thresholds: Mapping[str, float]
    fast_labels: frozenset[str]
    fast_threshold: float
    sizes: Mapping[str, SizeFilter]
    masks: Sequence[Polygon]
    zones: Sequence[Zone]
    digest: str

    @classmethod
    def of(cls, settings: WatchSettings, camera: CameraWatch, model: ModelThresholds) -> "WatchPolicy":
        default = model.threshold if settings.threshold is None else settings.threshold
        by_label = by_canonical(settings.thresholds)
        # The thresholds of cameras are 32-bit floats, as scores are; those of the settings are not.
        own = {label: _to_float32(score) for label, score in by_canonical(camera.thresholds).items()}
        labels = sorted(set(map(canonical, settings.labels)))
        sizes = by_canonical(camera.sizes)
        fast = model.fast_threshold if settings.fast_threshold is None else settings.fast_threshold
        values = {
            "thresholds": {
                label: own.get(label, own.get(EVERY_OTHER, by_label.get(label, default))) for label in labels
            },
            "fast_labels": frozenset(map(canonical, settings.fast_labels)).intersection(labels),
            "fast_threshold": fast,
            "sizes": {label: size for label in labels if (size := sizes.get(label, sizes.get(EVERY_OTHER)))},
            "masks": tuple(camera.masks),
            "zones": tuple(sorted(camera.zones, key=lambda zone: zone.id)),
        }
        return cls(**values, digest=_digest(**values))  # type: ignore[arg-type]

    def decide(self, finding: Finding, picture_aspect: float = 0.0) -> PolicyResult:
        """`picture_aspect` is as in SizeFilter.fits."""
        decision = self.decide_without_box(finding.label, finding.score)
        if decision is not _MAY_COUNT:
            return PolicyResult(decision)
        size = self.sizes.get(finding.label)
        if size is not None and not size.fits(finding, picture_aspect):
            return _SIZE
        if not self.masks and not self.zones:
            return _KEPT
        foot = finding.foot
        if any(mask.contains(foot) for mask in self.masks):
            return _MASKED
        return PolicyResult(Decision.KEPT, tuple(zone.id for zone in self.zones if zone.area.contains(foot)))

    def decide_without_box(self, label: str, score: float) -> Decision:
        """What `decide` decides, unless the box of a finding that would be kept is dropped."""
        threshold = self.thresholds.get(label)
        if threshold is None:
            return _NOT_WATCHED
        if not score >= threshold:  # also true for a score that is not a number
            return _BELOW_THRESHOLD
        return _MAY_COUNT

    def is_fast(self, kept: Finding) -> bool:
        """Returns whether a kept finding takes the fast path: its event is due for assessment at once."""
        return kept.label in self.fast_labels and kept.score >= self.fast_threshold


def unknown_labels(settings: WatchSettings, known: Sequence[str]) -> dict[str, list[str]]:
    """Returns, by the name of the setting, the labels in it that are not among `known`."""
    found = set(map(canonical, known))
    named = {
        "watch_classes": settings.labels,
        "watch_thresholds": settings.thresholds,
        "watch_fast_classes": settings.fast_labels,
    }
    unknown = {
        name: [label for label in dict.fromkeys(map(canonical, labels)) if label not in found]
        for name, labels in named.items()
    }
    return {name: labels for name, labels in unknown.items() if labels}


def _to_float32(score: float) -> float:
    """Returns the nearest 32-bit float."""
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
    """Returns a hex SHA-256."""
    content = {
        "version": VERSION,
        "thresholds": thresholds,
        "fast_labels": sorted(fast_labels),
        "fast_threshold": fast_threshold,
        "sizes": {label: astuple(size) for label, size in sizes.items()},
        "masks": sorted(mask.corners for mask in masks),
        "zones": [[zone.id, zone.area.corners] for zone in zones],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
