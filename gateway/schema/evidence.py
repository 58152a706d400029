# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What an event is assessed from: what was frozen when it opened, and what follows from its detections."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.schema.message_fields import message_field, optional_message_field, round_float32, to_list
from gateway.schema.people import PersonRelation
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


@strawberry.enum(name="ChangeKind")
class SceneChangeKind(Enum):
    CAME = evidence_pb2.CHANGE_KIND_CAME
    WENT = evidence_pb2.CHANGE_KIND_WENT


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
        return [_visit(visit, self.evidence) for visit in self.message.visits]


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


@strawberry.type(name="KnownPerson", description="Somebody whom the house knew when the event opened.")
class EvidencePerson:
    message: strawberry.Private[evidence_pb2.Person]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")
    relation: PersonRelation = message_field("relation")


@strawberry.type(name="DueVisit", description="A visit that was expected when the event opened.")
class EvidenceVisit:
    message: strawberry.Private[evidence_pb2.ExpectedVisit]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")
    labels: list[str] = message_field("labels", to_list, description="What was expected. Empty: people.")
    zone_ids: list[strawberry.ID] = message_field(
        "zone_ids", to_list, description="Where in the picture. Empty: everywhere."
    )


@strawberry.type(
    name="Change", description="A vehicle that has come to stay, or that stood there and has left."
)
class EvidenceChange:
    message: strawberry.Private[evidence_pb2.Change]
    evidence: strawberry.Private[evidence_pb2.Evidence]
    thing: str = message_field("thing", description="Its label.")
    kind: SceneChangeKind = message_field("kind")
    at: Timestamp = message_field(
        "time", description="CAME: when it was first seen. WENT: the first frame that lacks it."
    )

    @strawberry.field(description="Null if the camera's zones and ground say nothing of its place. " + GROUND)
    def zone(self) -> CameraZone | None:
        if not self.message.zone_id:
            return None
        return _zone(self.message.zone_id, self.message.zone_kind, self.evidence)


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
    people: list[EvidencePerson] = message_field(
        "people", list_of=EvidencePerson, description="The people whom the house knew when the event opened."
    )
    present_person_ids: list[strawberry.ID] = message_field("present_person_ids", to_list)
    expected_visits: list[EvidenceVisit] = message_field(
        "expected",
        list_of=EvidenceVisit,
        description="Those that were expected on this camera when the event opened.",
    )
    site_notes: list[str] = message_field(
        "site_notes", to_list, description="For language models. The rules read none."
    )
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

    @strawberry.field(
        description="A vehicle that has left is an event of its own, without detections. One that has come "
        "to stay is told in the event in which it came."
    )
    def changes(self) -> list[EvidenceChange]:
        return [EvidenceChange(message=one, evidence=self.message) for one in self.message.changes]

    @strawberry.field(description="In order of their first frame. Empty in evidence of an earlier version.")
    def tracks(self) -> list[EventTrack]:
        return [EventTrack(message=track, evidence=self.message) for track in self.message.tracks]


def _visit(message: scene_pb2.Visit, evidence: evidence_pb2.Evidence) -> TrackVisit:
    micros = message.end_time.ToMicroseconds() - message.start_time.ToMicroseconds()
    return TrackVisit(
        zone=_zone(message.zone_id, message.kind, evidence),
        started_at=message.start_time,
        ended_at=message.end_time,
        seconds=micros / 1e6,
    )


def _zone(id: str, kind: scene_pb2.ZoneKind.ValueType, evidence: evidence_pb2.Evidence) -> CameraZone:
    """The zone of this id; if none has it, one of this kind, as the camera's ground makes it."""
    known = next((zone for zone in evidence.zones if zone.id == id), None)
    return CameraZone(message=known or scene_pb2.Zone(id=id, kind=kind))
