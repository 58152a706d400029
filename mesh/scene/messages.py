"""Converts places and tracks between protobuf messages and the domain's types."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from lares.scene.v1 import scene_pb2
from mesh.problems import Invalid
from mesh.scene.geometry import Polygon, Segment
from mesh.scene.places import GROUND_ID, Ground, Place, SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import Direction, LineCrossing, SceneTrack, ZoneVisit

E = TypeVar("E", bound=IntEnum)


def enum_value(kind: type[E], number: int) -> E | None:
    """None for UNSPECIFIED, and for a number of a later version."""
    try:
        return kind(number)
    except ValueError:
        return None


def zone_of(message: scene_pb2.Zone) -> SceneZone:
    """Raises Invalid BAD_ZONE."""
    corners = tuple((corner.x, corner.y) for corner in message.polygon)
    kind = enum_value(ZoneKind, message.kind)
    if kind is None:
        raise Invalid(f"zone {message.id!r} has no kind that is known", "BAD_ZONE")
    if len(corners) < 3 or not all(0 <= x <= 1 and 0 <= y <= 1 for x, y in corners):
        raise Invalid(f"zone {message.id!r} needs at least three corners within the picture", "BAD_ZONE")
    return SceneZone(message.id, message.name, kind, Polygon(corners))


def zone_message(zone: SceneZone) -> scene_pb2.Zone:
    polygon = [scene_pb2.Point(x=x, y=y) for x, y in zone.area.corners]
    return scene_pb2.Zone(
        id=zone.id, name=zone.name, kind=scene_pb2.ZoneKind.ValueType(zone.kind), polygon=polygon
    )


def line_of(message: scene_pb2.Line) -> SceneLine:
    """Raises Invalid BAD_LINE."""
    start, end = (message.start.x, message.start.y), (message.end.x, message.end.y)
    if start == end or not all(0 <= value <= 1 for value in (*start, *end)):
        raise Invalid(f"line {message.id!r} needs two different ends within the picture", "BAD_LINE")
    return SceneLine(message.id, message.name, Segment(start, end))


def line_message(line: SceneLine) -> scene_pb2.Line:
    (start_x, start_y), (end_x, end_y) = line.segment.start, line.segment.end
    start, end = scene_pb2.Point(x=start_x, y=start_y), scene_pb2.Point(x=end_x, y=end_y)
    return scene_pb2.Line(id=line.id, name=line.name, start=start, end=end)


def ground_of(value: scene_pb2.Ground.ValueType) -> Ground | None:
    return enum_value(Ground, value)


def track_of(
    message: scene_pb2.Track, zones: Sequence[SceneZone], lines: Sequence[SceneLine], detections: int
) -> SceneTrack:
    """`detections` is the number of the event's detections. Raises Invalid BAD_TRACK."""
    indexes = tuple(message.detection_indexes)
    if not indexes or not all(0 <= index < detections for index in indexes) or len({*indexes}) < len(indexes):
        raise Invalid(f"track {message.id!r} must name different detections of the evidence", "BAD_TRACK")
    kinds = {zone.id: zone.kind for zone in zones}
    return SceneTrack(
        label=message.label,
        indexes=indexes,
        stationary=message.stationary,
        visits=tuple(_visit(visit, kinds, message.id) for visit in message.visits),
        crossings=tuple(_crossing(crossing, lines, message.id) for crossing in message.crossings),
    )


def visit_message(visit: ZoneVisit) -> scene_pb2.Visit:
    return scene_pb2.Visit(
        zone_id=visit.place.zone_id,
        kind=scene_pb2.ZoneKind.ValueType(visit.place.kind),
        start_time=_timestamp(visit.start),
        end_time=_timestamp(visit.end),
    )


def crossing_message(crossing: LineCrossing) -> scene_pb2.Crossing:
    return scene_pb2.Crossing(
        line_id=crossing.line_id,
        direction=scene_pb2.Direction.ValueType(crossing.direction),
        time=_timestamp(crossing.time),
    )


def _visit(message: scene_pb2.Visit, kinds: dict[str, ZoneKind], track: str) -> ZoneVisit:
    kind = kinds.get(message.zone_id)
    if kind is None and message.zone_id == GROUND_ID:
        kind = enum_value(ZoneKind, message.kind)
    if kind is None:
        raise Invalid(f"track {track!r} visits {message.zone_id!r}, which is no zone", "BAD_TRACK")
    start, end = _datetime(message.start_time, track), _datetime(message.end_time, track)
    if end < start:
        raise Invalid(f"track {track!r} has a visit that ends before it starts", "BAD_TRACK")
    return ZoneVisit(Place(message.zone_id, kind), start, end)


def _crossing(message: scene_pb2.Crossing, lines: Sequence[SceneLine], track: str) -> LineCrossing:
    direction = enum_value(Direction, message.direction)
    if message.line_id not in {line.id for line in lines} or direction is None:
        raise Invalid(f"track {track!r} crosses {message.line_id!r}, which is no line", "BAD_TRACK")
    return LineCrossing(message.line_id, direction, _datetime(message.time, track))


def _datetime(message: Timestamp, track: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"a time of track {track!r} is outside the years 1 to 9999", "BAD_TRACK") from None


def _timestamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message
