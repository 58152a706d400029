"""Who tracks are, as somebody has said. Pure.

Frames that join an event later can change its tracks, so a name is kept with the detections that its track
had when it was given, which never change.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from lares.reason.v1.evidence_pb2 import Person
from lares.scene.v1.scene_pb2 import Identity, Track


@dataclass(frozen=True, slots=True)
class NamedTrack:
    """`person` is a serialised Person as of the naming; empty if somebody has looked and does not know."""

    track_id: UUID
    detection_ids: tuple[UUID, ...]
    person: bytes

    @property
    def digest_parts(self) -> tuple[bytes, ...]:
        return self.track_id.bytes, self.person, b"".join(sorted(id.bytes for id in self.detection_ids))

    def is_held_by(self, detection_ids: Iterable[UUID]) -> bool:
        """Whether these are most of its detections, or more."""
        return 2 * len({*self.detection_ids}.intersection(detection_ids)) > len(self.detection_ids)

    @property
    def identity(self) -> Identity:
        return Identity(person_id=self.person_message().id)

    def person_message(self) -> Person:
        return Person.FromString(self.person)


def name_tracks(
    tracks: Iterable[Track], detection_ids: Sequence[UUID], names: Sequence[NamedTrack]
) -> list[NamedTrack]:
    """Gives each track the name most of whose detections it holds. Returns the names that no track has.

    Two different names for one track, which were given to parts of it, are none.
    """
    lost = list(names)
    for track in tracks:
        held = {detection_ids[index] for index in track.detection_indexes}
        claims = [name for name in names if name.is_held_by(held)]
        if len({name.person for name in claims}) == 1:
            track.identity.CopyFrom(claims[0].identity)
            lost = [name for name in lost if name not in claims]
    return lost
