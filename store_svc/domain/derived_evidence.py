"""What follows from an event's detections and what was frozen with it: tracks, light and what happened in the
events before. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from lares.reason.v1.evidence_pb2 import Evidence, PastEvent
from lares.scene.v1 import scene_pb2
from mesh.identity import track_id
from mesh.labels import canonical
from mesh.scene.daylight import light_at
from mesh.scene.geometry import Box, likeness
from mesh.scene.links import SeenObject
from mesh.scene.media_links import CLOCK_SECONDS
from mesh.scene.messages import crossing_message, enum_value, ground_of, line_of, visit_message, zone_of
from mesh.scene.places import Ground, Place, SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import FIRST_VERSION, SAME, VERSION, Direction, SceneTrack, derive_tracks


@dataclass(frozen=True, slots=True)
class FoundObject:
    """A detection that counts, as it is stored."""

    id: UUID
    label: str
    score: float
    box: Sequence[float]
    captured_at: datetime
    media_id: UUID
    stands: bool = False

    def seen(self) -> SeenObject:
        x_min, y_min, x_max, y_max = self.box
        box = x_min, y_min, x_max, y_max
        label, media = canonical(self.label), str(self.media_id)
        return SeenObject(label, self.score, box, self.captured_at, media, self.stands)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the camera's configuration said of its picture when the event opened, and how tracks are
    derived."""

    zones: tuple[SceneZone, ...]
    lines: tuple[SceneLine, ...]
    ground: Ground | None
    derivation: str = VERSION
    clock_seconds: float = CLOCK_SECONDS

    @staticmethod
    def of(evidence: Evidence) -> "Surroundings":
        """Leaves out zones whose kind only a later version knows."""
        return Surroundings(
            zones=tuple(zone_of(zone) for zone in evidence.zones if enum_value(ZoneKind, zone.kind)),
            lines=tuple(map(line_of, evidence.lines)),
            ground=ground_of(evidence.ground),
            derivation=evidence.derivation or FIRST_VERSION,
            clock_seconds=evidence.clock_seconds if evidence.HasField("clock_seconds") else CLOCK_SECONDS,
        )

    def tracks(self, found: Iterable[FoundObject]) -> list[SceneTrack]:
        seen = [each.seen() for each in found]
        return derive_tracks(seen, self.zones, self.lines, self.ground, self.derivation, self.clock_seconds)


def track_messages(
    event_id: str, found: Sequence[FoundObject], surroundings: Surroundings
) -> list[scene_pb2.Track]:
    """The tracks of these detections, which they name by their places."""
    return [
        scene_pb2.Track(
            id=track_id(event_id, str(found[track.indexes[0]].id)),
            label=track.label,
            detection_indexes=track.indexes,
            stationary=track.stationary,
            visits=map(visit_message, track.visits),
            crossings=map(crossing_message, track.crossings),
        )
        for track in surroundings.tracks(found)
    ]


def light_of(started_at: datetime, time_zone: str) -> scene_pb2.Light.ValueType:
    """Whether it was day at the camera when the event started."""
    return scene_pb2.Light.ValueType(light_at(started_at.astimezone(ZoneInfo(time_zone)), time_zone))


def standing_boxes(found: Sequence[FoundObject], tracks: Iterable[scene_pb2.Track]) -> tuple[Box, ...]:
    """Where the stationary vehicles among the tracks of these detections stand."""
    return tuple(found[track.detection_indexes[0]].seen().box for track in tracks if track.stationary)


def stationary_matches(boxes: Sequence[Box], then: Sequence[Box]) -> int:
    """How many of these vehicles stood there then, too."""
    return sum(any(likeness(box, other) >= SAME for other in then) for box in boxes)


def past_of(found: Sequence[FoundObject], surroundings: Surroundings) -> tuple[PastEvent, tuple[Box, ...]]:
    """What later evidence says of an event that had these detections then: its labels, how long things of
    one label were in one place, and how many tracks crossed a line inwards; and where its stationary vehicles
    stood."""
    stays: dict[tuple[Place, str], float] = {}
    inward = 0
    standing: list[Box] = []
    for track in surroundings.tracks(found):
        if track.stationary:
            standing.append(found[track.indexes[0]].seen().box)
        inward += any(crossing.direction is Direction.INWARDS for crossing in track.crossings)
        for visit in track.visits:
            stays[visit.place, track.label] = stays.get((visit.place, track.label), 0.0) + visit.seconds
    past = PastEvent(labels=sorted({canonical(each.label) for each in found}), inward_crossings=inward)
    for place, label in sorted(stays, key=lambda stay: (stay[0].zone_id, stay[0].kind, stay[1])):
        kind = scene_pb2.ZoneKind.ValueType(place.kind)
        past.stays.add(zone_id=place.zone_id, kind=kind, label=label, seconds=stays[place, label])
    return past, tuple(standing)
