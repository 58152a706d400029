"""What the places in a camera's picture mean: zones, lines and the ground. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mesh.scene.geometry import Box, Polygon, Segment, foot_point


class ZoneKind(IntEnum):
    """The numbers of lares.scene.v1.ZoneKind."""

    PUBLIC = 1
    APPROACH = 2
    PRIVATE = 3
    ENTRY = 4
    WINDOW = 5
    INSIDE = 6
    WATER = 7


class Ground(IntEnum):
    """What a camera looks at. The numbers of lares.scene.v1.Ground."""

    STREET_SIDE = 1
    FRONT_DOOR = 2
    DRIVE = 3
    GARDEN = 4
    INSIDE = 5


@dataclass(frozen=True, slots=True)
class SceneZone:
    id: str
    name: str
    kind: ZoneKind
    area: Polygon


@dataclass(frozen=True, slots=True)
class SceneLine:
    id: str
    name: str
    segment: Segment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a foot point is. `zone_id` is GROUND_ID outside every zone."""

    zone_id: str
    kind: ZoneKind


GROUND_ID = "ground"

# Outside the zones, the ground and the height of the box say what kind of place it is: what appears small is
# far away, and beyond the ground of the house. Each pair is the least height, as a share of the picture's,
# and the kind.
GROUND_KINDS: dict[Ground, tuple[tuple[float, ZoneKind], ...]] = {
    Ground.STREET_SIDE: ((0.5, ZoneKind.APPROACH), (0.0, ZoneKind.PUBLIC)),
    Ground.FRONT_DOOR: ((0.5, ZoneKind.ENTRY), (0.3, ZoneKind.APPROACH), (0.0, ZoneKind.PUBLIC)),
    Ground.DRIVE: ((0.33, ZoneKind.PRIVATE), (0.0, ZoneKind.PUBLIC)),
    Ground.GARDEN: ((0.25, ZoneKind.PRIVATE), (0.0, ZoneKind.PUBLIC)),
    Ground.INSIDE: ((0.0, ZoneKind.INSIDE),),
}


def place_of(box: Box, zones: Sequence[SceneZone], ground: Ground | None) -> Place | None:
    """The first zone that contains the foot point, or what the ground makes of it; None if neither says
    anything."""
    foot = foot_point(box)
    for zone in zones:
        if zone.area.contains(foot):
            return Place(zone.id, zone.kind)
    if ground is None:
        return None
    height = box[3] - box[1]
    return Place(GROUND_ID, next(kind for least, kind in GROUND_KINDS[ground] if height >= least))
