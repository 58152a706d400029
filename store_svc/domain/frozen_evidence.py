"""What the transaction that opens an event freezes of its evidence: all but the detections. Pure.

It is kept as the bytes of two Evidence messages, which are one message if they are read one after the
other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from lares.reason.v1.evidence_pb2 import (
    Change,
    ChangeKind,
    Evidence,
    Habit,
    PastEvent,
    Person,
    Relation,
)
from lares.scene.v1.scene_pb2 import ZoneKind
from lares.store.v1.camera_scene_pb2 import CameraScene
from mesh.scene import tracks
from mesh.scene.media_links import CLOCK_SECONDS
from mesh.scene.places import place_of
from store_svc.domain.derived_evidence import Surroundings
from store_svc.domain.evidence import EarlierEvent, sha256_of
from store_svc.domain.house import HouseContext, KnownPerson
from store_svc.domain.track_identity import NamedTrack
from store_svc.domain.vehicle_memory import Vehicle
from store_svc.times import set_stamp, stamp

MOST_BYTES = 16 * 1024  # of a body
FOR_LEFT_OUT = 100  # of those
MOST_PAST = 100
MOST_CHANGES = 64


@dataclass(frozen=True, slots=True)
class FrozenEvidence:
    """`scene` has the camera's zones, lines and ground, `body` all the rest; both are serialised Evidence.
    `names` is what somebody has said of tracks since.

    `digest` covers all of it, as it is stored, with the version of the code that derives the tracks, which
    the body names. A field of a message is a number, a length and a value, and fields are written in the
    order of their numbers, so the same evidence has the same bytes in every database.
    """

    scene: bytes
    body: bytes
    names: tuple[NamedTrack, ...] = ()

    @property
    def digest(self) -> bytes:
        named = sorted(self.names, key=lambda name: name.track_id.bytes)
        return sha256_of(self.scene, self.body, *chain.from_iterable(name.digest_parts for name in named))

    def with_names(self, names: Iterable[NamedTrack]) -> "FrozenEvidence":
        return replace(self, names=tuple(names))

    def message(self) -> Evidence:
        """With the people whom somebody has named, as they were known then."""
        message = Evidence.FromString(self.scene + self.body)
        named = {person.id: person for name in self.names if (person := name.person_message()).id}
        if named:
            others = [person for person in message.people if person.id not in named]
            message.ClearField("people")
            message.people.extend([*others, *named.values()])
        return message


def frozen_scene(scene: bytes) -> bytes:
    """What evidence takes from a camera's scene, a serialised CameraScene: zones, lines and ground."""
    if not scene:
        return b""
    message = CameraScene.FromString(scene)
    return _bytes(Evidence(zones=message.zones, lines=message.lines, ground=message.ground))


def freeze(
    scene: bytes,
    camera_id: str,
    camera_name: str,
    time_zone: str,
    past: Sequence[EarlierEvent],
    house: HouseContext,
    habits: Sequence[Habit] = (),
    changes: Sequence[Change] = (),
    clock_seconds: float = CLOCK_SECONDS,
) -> FrozenEvidence:
    """`scene` is that of `frozen_scene`. `past` are the camera's events of the hour before, in order of their
    start, as they were then. Of `changes`, at most MOST_CHANGES are kept."""
    body = Evidence(
        camera_id=camera_id,
        camera_name=camera_name,
        time_zone=time_zone,
        mode=house.mode,
        derivation=tracks.VERSION,
        clock_seconds=clock_seconds,
    )
    # As arguments, lists cost much more, empty ones too, and most are empty.
    body.people.extend(map(person_message, house.people))
    body.present_person_ids.extend(map(str, house.present_person_ids))
    for visit in house.expected:
        body.expected.add(id=visit.id, name=visit.name, labels=visit.labels, zone_ids=visit.zone_ids)
    body.site_notes.extend(house.site_notes)
    body.habits.extend(habits)
    body.changes.extend(changes[:MOST_CHANGES])
    for event in past:
        added = body.past.add(event_id=str(event.event_id), detection_count=event.detections)
        set_stamp(added.started_at, event.started_at)
        set_stamp(added.ended_at, event.ended_at)
    return FrozenEvidence(scene, _bytes(_limited(body)))


def amended_body(body: bytes, house: HouseContext) -> bytes:
    """The same with another mode and presence: of the people who were known when the event opened."""
    message = Evidence.FromString(body)
    known = {person.id for person in message.people}
    present = [id for id in map(str, house.present_person_ids) if id in known]
    if message.mode == house.mode and message.present_person_ids == present:
        return body
    message.mode = house.mode
    message.present_person_ids[:] = present
    return _bytes(_limited(message))


def person_message(person: KnownPerson) -> Person:
    return Person(id=str(person.id), name=person.name, relation=Relation.ValueType(person.relation))


def _limited(body: Evidence) -> Evidence:
    """Leaves out what makes the body too large, and says so in it. Nothing of it hides a danger as long as
    something else can go: notes are for language models only, habits, expected visits and people who are
    present can only lower a score, and whom somebody has named is kept with the name. Events before, of which
    the oldest go first, can raise it."""
    if len(body.past) <= MOST_PAST and body.ByteSize() <= MOST_BYTES - FOR_LEFT_OUT:
        return body
    left_out = list(body.left_out)
    if len(body.past) > MOST_PAST:
        del body.past[: len(body.past) - MOST_PAST]
        left_out.append("past")
    for name, place in (("site_notes", -1), ("habits", -1), ("expected", -1), ("people", -1), ("past", 0)):
        items: Any = getattr(body, name)
        while items and body.ByteSize() > MOST_BYTES - FOR_LEFT_OUT:
            del items[place]
            if name not in left_out:
                left_out.append(name)
            if name == "people":
                known = {person.id for person in items}
                body.present_person_ids[:] = [id for id in body.present_person_ids if id in known]
    body.left_out[:] = left_out
    return body


def with_change(frozen: FrozenEvidence, change: Change) -> FrozenEvidence:
    """The same with a change more. Of more than MOST_CHANGES, the last ones are left out."""
    body = Evidence.FromString(frozen.body)
    if len(body.changes) < MOST_CHANGES:
        body.changes.append(change)
    elif "changes" not in body.left_out:
        body.left_out.append("changes")
    return replace(frozen, body=_bytes(_limited(body)))


def change_of(vehicle: Vehicle, kind: ChangeKind.ValueType, at: int, surroundings: Surroundings) -> Change:
    """The vehicle came or went at this time, in microseconds."""
    change = Change(thing=vehicle.label, kind=kind, time=stamp(at))
    place = place_of(vehicle.box, surroundings.zones, surroundings.ground)
    if place is not None:
        change.zone_id, change.zone_kind = place.zone_id, ZoneKind.ValueType(place.kind)
    return change


def past_with_history(past: Sequence[PastEvent]) -> list[PastEvent]:
    """The same events as the field `history` has them, which earlier reasoners read."""
    return [PastEvent(event_id=event.event_id, started_at=event.started_at) for event in past]


def _bytes(message: Evidence) -> bytes:
    return message.SerializeToString(deterministic=True)
