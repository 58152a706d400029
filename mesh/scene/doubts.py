"""Zones and lines that are probably drawn wrongly. They are accepted with a warning, and what happens in such
a zone gives no relief. Pure."""

from mesh.scene.geometry import Box
from mesh.scene.places import SceneZone, ZoneKind

# A public zone that is larger, or that holds the feet of people who appear taller, is not believed: shares of
# the picture's area and height.
MOST_PUBLIC_AREA, TALL = 0.6, 0.5
# A line that more of at least so many tracks cross separates nothing.
MOST_CROSSING, LEAST_TRACKS = 0.5, 20


def is_too_large(zone: SceneZone) -> bool:
    return zone.kind is ZoneKind.PUBLIC and zone.area.share > MOST_PUBLIC_AREA


def is_tall(box: Box) -> bool:
    return box[3] - box[1] > TALL
