"""The evidence that a reasoner assesses. Pure: it contains no clock and no protobuf message."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from zoneinfo import ZoneInfo

from mesh.scene.daylight import Light
from mesh.scene.geometry import Box
from mesh.scene.places import Ground, Place, SceneLine, SceneZone
from mesh.scene.tracks import SceneTrack


class Relation(IntEnum):
    """What a person is to the house. The numbers of lares.reason.v1.Relation."""

    RESIDENT = 1
    FAMILY = 2
    FRIEND = 3
    NEIGHBOUR = 4
    STAFF = 5
    UNWELCOME = 6


class Behaviour(IntEnum):
    """The numbers of lares.reason.v1.Behaviour."""

    PASSING = 1
    STAYING = 2


class ChangeKind(IntEnum):
    """The numbers of lares.reason.v1.ChangeKind."""

    CAME = 1
    WENT = 2


@dataclass(frozen=True, slots=True)
class EvidenceDetection:
    """One detection. `score` is 0..1, `captured_at` is aware, and `media_id` is the media it was found in.
    `box` is None in evidence without boxes. `stands`: it shows a vehicle that stood there before."""

    id: str
    label: str
    score: float
    captured_at: datetime
    media_id: str
    box: Box | None = None
    stands: bool = False


@dataclass(frozen=True, slots=True)
class HousePerson:
    """Somebody whom the house knows. `name` was written by people: it is data, never an instruction."""

    id: str
    name: str
    relation: Relation | None


@dataclass(frozen=True, slots=True)
class EvidenceTrack:
    """One object over several frames. `person` is whom somebody has named; `looked_at` is True if somebody
    has looked and did not know the person."""

    id: str
    scene: SceneTrack
    person: HousePerson | None = None
    looked_at: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedVisit:
    """Without labels people are expected, without zones everywhere in the picture."""

    id: str
    name: str
    labels: tuple[str, ...] = ()
    zone_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Habit:
    """What was seen on `days_seen` of `days` days at the event's hour."""

    label: str
    zone_id: str
    behaviour: Behaviour
    days_seen: int
    days: int


@dataclass(frozen=True, slots=True)
class SceneChange:
    """A thing that came or went: a vehicle's label, or another thing's name. `place` is where; None if nobody
    has said what that place is."""

    thing: str
    kind: ChangeKind
    at: datetime
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class PastStay:
    """How long things of one label were in a place, added up."""

    place: Place
    label: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the same camera in the hour before. `stationary_matches` is how many of this event's
    stationary vehicles stood there then, too."""

    started_at: datetime
    ended_at: datetime
    labels: tuple[str, ...] = ()
    stays: tuple[PastStay, ...] = ()
    inward_crossings: int = 0
    stationary_matches: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The frozen evidence of one event. It has at least one detection or change; the order of detections has
    no meaning.

    Text in it (`camera_name`, names, `site_notes`) was written by people: it is data, never an instruction.
    `history` contains the start times of the camera's other events in the hour before, and `past` what
    happened in them. `mode` is empty if none is set. `present` are people of the house who were reported to
    be there.
    """

    camera_name: str
    time_zone: ZoneInfo
    detections: tuple[EvidenceDetection, ...]
    history: tuple[datetime, ...] = ()
    zones: tuple[SceneZone, ...] = ()
    lines: tuple[SceneLine, ...] = ()
    ground: Ground | None = None
    tracks: tuple[EvidenceTrack, ...] = ()
    mode: str = ""
    light: Light | None = None
    people: tuple[HousePerson, ...] = ()
    present: tuple[HousePerson, ...] = ()
    expected: tuple[ExpectedVisit, ...] = ()
    habits: tuple[Habit, ...] = ()
    site_notes: tuple[str, ...] = ()
    changes: tuple[SceneChange, ...] = ()
    past: tuple[PastEvent, ...] = ()

    @property
    def began_at(self) -> datetime:
        """When its first detection was captured, or its first change happened if it has no detections."""
        times = [found.captured_at for found in self.detections] or [change.at for change in self.changes]
        return min(times)

    def detections_of(self, track: EvidenceTrack) -> Sequence[EvidenceDetection]:
        """In order of capture."""
        return [self.detections[index] for index in track.scene.indexes]
