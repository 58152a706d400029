"""What a camera's configuration says about its picture: zones, lines, masks, size filters and ground.

It is kept as the bytes of a CameraScene message, which is checked whenever it changes. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import dist, inf, isfinite
from typing import Any, Protocol

from lares.scene.v1 import scene_pb2
from lares.store.v1.camera_pb2 import Mask
from lares.store.v1.camera_scene_pb2 import CameraScene
from mesh.problems import Invalid
from mesh.scene.geometry import Polygon
from mesh.scene.messages import ground_of, line_of, zone_of
from mesh.scene.places import GROUND_ID, Ground, SceneLine, SceneZone
from store_svc.domain.watch_policy import CameraWatch, SizeFilter, Zone
from store_svc.ids import SLUG

# The parts that clients can change: fields of a Camera message, and paths of an update mask.
SCENE_SETTINGS = ("zones", "lines", "masks", "size_filters", "ground")

MOST_ITEMS = 32
FEWEST_CORNERS, MOST_CORNERS = 3, 64
LONGEST_ID, LONGEST_NAME = 63, 200
# Smaller ones are slips of the hand: shares of the picture's area, and of its sides.
LEAST_AREA, LEAST_LENGTH = 0.0005, 0.02


class _Named(Protocol):
    id: str
    name: str


def changed_scene(scene: bytes, parts: Mapping[str, Any]) -> bytes:
    """Returns the scene with these parts, by the names in SCENE_SETTINGS, instead of its own. Raises Invalid:
    BAD_ZONE, BAD_LINE, BAD_MASK, BAD_SIZE_FILTER, BAD_GROUND. Only these parts are checked, because a later
    version may be stricter about the others."""
    message = CameraScene.FromString(scene)
    for name in parts:
        message.ClearField(name)  # type: ignore[arg-type]
    message.MergeFrom(CameraScene(**{name: value for name, value in parts.items() if value}))
    for name in parts:
        _CHECKS[name](message)
    return message.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True)
class CameraPlaces:
    """What evidence, warnings and suggestions take from a camera's configuration."""

    zones: tuple[SceneZone, ...] = ()
    lines: tuple[SceneLine, ...] = ()
    ground: Ground | None = None


def camera_places(scene: bytes) -> CameraPlaces:
    message = CameraScene.FromString(scene)
    return CameraPlaces(
        zones=tuple(map(zone_of, message.zones)),
        lines=tuple(map(line_of, message.lines)),
        ground=ground_of(message.ground),
    )


def camera_watch(thresholds: Mapping[str, float], scene: bytes) -> CameraWatch:
    """What the watch policy takes from a camera's configuration."""
    if not scene:
        return CameraWatch(thresholds)
    message = CameraScene.FromString(scene)
    return CameraWatch(
        thresholds=thresholds,
        sizes={
            label: SizeFilter(size.min_area, size.max_area or inf, size.min_aspect, size.max_aspect or inf)
            for label, size in message.size_filters.items()
        },
        masks=[_polygon(mask.polygon) for mask in message.masks],
        zones=[Zone(zone.id, _polygon(zone.polygon)) for zone in message.zones],
    )


def _polygon(corners: Iterable[scene_pb2.Point]) -> Polygon:
    return Polygon(tuple((corner.x, corner.y) for corner in corners))


def _check_zones(scene: CameraScene) -> None:
    _check_names(scene.zones, "zone")
    for zone in scene.zones:
        if not zone.kind or zone.kind not in scene_pb2.ZoneKind.values():
            raise _bad(zone, "zone", "it has no kind that is known")
        _check_polygon(zone, "zone")


def _check_lines(scene: CameraScene) -> None:
    _check_names(scene.lines, "line")
    for line in scene.lines:
        _check_segment(line)


def _check_masks(scene: CameraScene) -> None:
    _check_names(scene.masks, "mask")
    for mask in scene.masks:
        _check_polygon(mask, "mask")


def _check_ground(scene: CameraScene) -> None:
    if scene.ground not in scene_pb2.Ground.values():
        raise Invalid(f"{scene.ground} is not a ground that is known", "BAD_GROUND", field="ground")


def _check_names(items: Sequence[_Named], kind: str) -> None:
    if len(items) > MOST_ITEMS:
        sentence = f"a camera can have at most {MOST_ITEMS} {kind}s, not {len(items)}"
        raise Invalid(sentence, f"BAD_{kind.upper()}", field=f"{kind}s")
    seen: set[str] = set()
    for item in items:
        if not SLUG.fullmatch(item.id):
            raise _bad(item, kind, "its id is not a slug: [a-z0-9][a-z0-9_-]{0,62}")
        if item.id == GROUND_ID:
            raise _bad(item, kind, "this id stands for what the camera's ground says")
        if item.id in seen:
            raise _bad(item, kind, "another one has the same id")
        if len(item.name) > LONGEST_NAME:
            raise _bad(item, kind, f"its name is longer than {LONGEST_NAME} characters")
        seen.add(item.id)


def _check_segment(line: scene_pb2.Line) -> None:
    if not (line.HasField("start") and line.HasField("end")):
        raise _bad(line, "line", "it needs a start and an end")
    start, end = (line.start.x, line.start.y), (line.end.x, line.end.y)
    if not _in_picture((start, end)):
        raise _bad(line, "line", "its ends must lie in 0..1 of the picture")
    if dist(start, end) < LEAST_LENGTH:
        raise _bad(line, "line", f"it is shorter than {LEAST_LENGTH} of the picture")


def _check_polygon(item: scene_pb2.Zone | Mask, kind: str) -> None:
    corners = [(corner.x, corner.y) for corner in item.polygon]
    if not FEWEST_CORNERS <= len(corners) <= MOST_CORNERS:
        raise _bad(item, kind, f"it needs {FEWEST_CORNERS} to {MOST_CORNERS} corners, not {len(corners)}")
    if not _in_picture(corners):
        raise _bad(item, kind, "its corners must lie in 0..1 of the picture")
    # With numpy, which nothing else in the store needs, it takes 30 MB and 0.2 s: only when a zone is drawn.
    import shapely

    polygon = shapely.Polygon(corners)
    if not polygon.is_valid:
        # Corners are 32-bit floats: where two edges cross has more digits.
        reason = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.4g}", shapely.is_valid_reason(polygon))
        raise _bad(item, kind, f"it is no simple polygon: {reason}")
    if polygon.area <= LEAST_AREA:
        raise _bad(item, kind, f"its area is not above {LEAST_AREA} of the picture")


def _check_size_filters(scene: CameraScene) -> None:
    if len(scene.size_filters) > MOST_ITEMS:
        sentence = f"a camera can have at most {MOST_ITEMS} size filters, not {len(scene.size_filters)}"
        raise Invalid(sentence, "BAD_SIZE_FILTER", field="size_filters")
    for label, size in sorted(scene.size_filters.items()):
        fault = None
        if not all(0 <= area <= 1 for area in (size.min_area, size.max_area)):
            fault = "its areas must lie in 0..1 of the picture"
        elif not all(isfinite(aspect) and aspect >= 0 for aspect in (size.min_aspect, size.max_aspect)):
            fault = "its aspects must be finite and not negative"
        elif 0 < size.max_area < size.min_area or 0 < size.max_aspect < size.min_aspect:
            fault = "its largest is less than its smallest, so nothing would count"
        if fault:
            sentence = f"size filter of {label!r}: {fault}"
            raise Invalid(sentence, "BAD_SIZE_FILTER", field="size_filters", label=label)


def _in_picture(points: Iterable[tuple[float, float]]) -> bool:
    """False for coordinates that are no numbers, too."""
    return all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points)


def _bad(item: _Named, kind: str, fault: str) -> Invalid:
    id = item.id[:LONGEST_ID]  # what was sent may be longer
    return Invalid(f"{kind} {id!r}: {fault}", f"BAD_{kind.upper()}", field=f"{kind}s", id=id)


_CHECKS: dict[str, Callable[[CameraScene], None]] = {
    "zones": _check_zones,
    "lines": _check_lines,
    "masks": _check_masks,
    "size_filters": _check_size_filters,
    "ground": _check_ground,
}
