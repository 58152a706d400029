# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What an event is assessed from: what was frozen when it opened, and what follows from its detections."""

from collections.abc import Mapping
from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.schema.message_fields import message_field, optional_message_field, round_float32, to_list
from gateway.schema.scene import CameraGround, CameraLine, CameraZone, CameraZoneKind
from lares.reason.v1 import evidence_pb2
from lares.scene.v1 import scene_pb2

GROUND = "`ground` stands for what the camera's ground says of places outside the zones."


@strawberry.enum(name="Light", description="UNSPECIFIED: in evidence of an earlier version.")
class CameraLight(Enum):
    UNSPECIFIED = scene_pb2.LIGHT_UNSPECIFIED
    DAYLIGHT = scene_pb2.LIGHT_DAYLIGHT
    DARK = scene_pb2.LIGHT_DARK


@strawberry.enum(name="Direction")
class CrossingDirection(Enum):
    INWARDS = scene_pb2.DIRECTION_INWARDS
    OUTWARDS = scene_pb2.DIRECTION_OUTWARDS


@strawberry.enum(name="Behaviour")
class HabitBehaviour(Enum):
    PASSING = evidence_pb2.BEHAVIOUR_PASSING
    STAYING = evidence_pb2.BEHAVIOUR_STAYING


@strawberry.type(
    name="Visit", description="A stay in a zone, from the first to the last frame that shows it."
)
class TrackVisit:
    zone: CameraZone = strawberry.field(description="As it was when the event opened. " + GROUND)
    started_at: Timestamp
    ended_at: Timestamp
    seconds: float


@strawberry.type(name="Crossing", description="A line that was crossed between two frames.")
class TrackCrossing:
    message: strawberry.Private[scene_pb2.Crossing]
    line_id: strawberry.ID = message_field("line_id")
    direction: CrossingDirection = message_field("direction")
    at: Timestamp = message_field("time", description="When the later frame was captured.")


@strawberry.type(name="Identity", description="Who a track is, as somebody has said.")
class TrackIdentity:
    message: strawberry.Private[scene_pb2.Identity]
    person_id: strawberry.ID | None = message_field(
        "person_id",
        lambda id: id or None,
        description="Null: somebody has looked and does not know the person.",
    )


@strawberry.type(name="Track", description="One object over several frames of one event.")
class EventTrack:
    message: strawberry.Private[scene_pb2.Track]
    evidence: strawberry.Private[evidence_pb2.Evidence]
    id: strawberry.ID = message_field("id")
    label: str = message_field("label")
    stationary: bool = message_field("stationary", description="Only a vehicle can be.")
    crossings: list[TrackCrossing] = message_field("crossings", list_of=TrackCrossing)
    identity: TrackIdentity | None = optional_message_field(
        "identity", of=TrackIdentity, description="Null if nobody has said who it is."
    )

    @strawberry.field(description="In order of capture.")
    def detection_ids(self) -> list[strawberry.ID]:
        found = self.evidence.detections
        return [strawberry.ID(found[index].id) for index in self.message.detection_indexes]

    @strawberry.field(description="In order of time.")
    def visits(self) -> list[TrackVisit]:
        zones = {zone.id: zone for zone in self.evidence.zones}
        return [_visit(visit, zones) for visit in self.message.visits]


@strawberry.type(name="Stay", description="How long things of one label were in one place, added up.")
class PastStayInZone:
    message: strawberry.Private[evidence_pb2.Stay]
    zone_id: strawberry.ID = message_field("zone_id", description=GROUND)
    kind: CameraZoneKind = message_field("kind")
    label: str = message_field("label")
    seconds: float = message_field("seconds", round_float32)


@strawberry.type(name="PastEvent", description="An event of the same camera, as it was when this one opened.")
class EventBefore:
    message: strawberry.Private[evidence_pb2.PastEvent]
    id: strawberry.ID = message_field("event_id")
    started_at: Timestamp = message_field("started_at")
    ended_at: Timestamp | None = optional_message_field("ended_at")
    labels: list[str] = message_field("labels", to_list)
    detection_count: int = message_field("detection_count")
    stays: list[PastStayInZone] = message_field("stays", list_of=PastStayInZone)
    inward_crossings: int = message_field(
        "inward_crossings", description="How many tracks crossed a line inwards."
    )


@strawberry.type(name="Habit", description="What was seen at this hour on many of the days before.")
class CameraHabit:
    message: strawberry.Private[evidence_pb2.Habit]
    label: str = message_field("label")
    zone_id: strawberry.ID = message_field("zone_id", description=GROUND)
    behaviour: HabitBehaviour = message_field("behaviour")
    days_seen: int = message_field("days_seen")
    days: int = message_field("days")


@strawberry.type(
    name="Evidence",
    description="What an event is assessed from. Everything but the tracks was frozen when it opened, so "
    "later changes of the camera do not matter to it.",
)
class EventEvidence:
    message: strawberry.Private[evidence_pb2.Evidence]
    digest: str = message_field(
        "digest", description="An assessment with this `evidenceDigest` was made from exactly this."
    )
    camera_name: str = message_field("camera_name")
    time_zone: str = message_field("time_zone")
    mode: str | None = message_field(
        "mode",
        lambda mode: mode or None,
        description="Null if none was set, or nobody had confirmed it for long.",
    )
    light: CameraLight = message_field("light")
    ground: CameraGround = message_field("ground")
    zones: list[CameraZone] = message_field("zones", list_of=CameraZone)
    lines: list[CameraLine] = message_field("lines", list_of=CameraLine)
    present_person_ids: list[strawberry.ID] = message_field("present_person_ids", to_list)
    past: list[EventBefore] = message_field(
        "past", list_of=EventBefore, description="The camera's events of the hour before, the oldest first."
    )
    habits: list[CameraHabit] = message_field("habits", list_of=CameraHabit)
    lost_identities: list[TrackIdentity] = message_field(
        "lost_identities",
        list_of=TrackIdentity,
        description="What somebody has said of tracks that are no more, because frames have joined since.",
    )
    left_out: list[str] = message_field(
        "left_out", to_list, description="What was shortened, because it would have been too large."
    )

    @strawberry.field(description="In order of their first frame. Empty in evidence of an earlier version.")
    def tracks(self) -> list[EventTrack]:
        return [EventTrack(message=track, evidence=self.message) for track in self.message.tracks]


def _visit(message: scene_pb2.Visit, zones: Mapping[str, scene_pb2.Zone]) -> TrackVisit:
    zone = zones.get(message.zone_id) or scene_pb2.Zone(id=message.zone_id, kind=message.kind)
    micros = message.end_time.ToMicroseconds() - message.start_time.ToMicroseconds()
    return TrackVisit(
        zone=CameraZone(message=zone),
        started_at=message.start_time,
        ended_at=message.end_time,
        seconds=micros / 1e6,
    )
