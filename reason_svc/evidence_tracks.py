"""The tracks of evidence: those that it gives, checked, or those that follow from its detections.

A given track may say nothing that the detections could not show: every detection is in one track, of its own
label, and nothing happened before the track's first detection or after its last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from lares.reason.v1 import evidence_pb2
from mesh.identity import track_id
from mesh.labels import canonical
from mesh.problems import Invalid
from mesh.scene.links import SeenObject
from mesh.scene.messages import track_of
from mesh.scene.places import Ground, SceneLine, SceneZone
from mesh.scene.tracks import VEHICLES, SceneTrack, derive_tracks
from reason_svc.evidence import EvidenceDetection, EvidenceTrack, HousePerson
from reason_svc.plain_text import plain_text

MAX_LABEL_LENGTH = 64


def given_tracks(
    message: evidence_pb2.Evidence,
    detections: Sequence[EvidenceDetection],
    zones: Sequence[SceneZone],
    lines: Sequence[SceneLine],
    people: Mapping[str, HousePerson],
) -> tuple[EvidenceTrack, ...]:
    """Raises Invalid: BAD_TRACK, BAD_PERSON."""
    tracks = []
    for given in message.tracks:
        scene = track_of(given, zones, lines, len(detections))
        scene = replace(scene, label=canonical(plain_text(scene.label, MAX_LABEL_LENGTH)))
        if wrong := _contradiction(scene, detections):
            raise Invalid(f"track {given.id!r} {wrong}", "BAD_TRACK")
        person = given.identity.person_id
        if person and person not in people:
            raise Invalid(f"track {given.id!r} names a person who is not among the people", "BAD_PERSON")
        tracks.append(
            EvidenceTrack(given.id, scene, people.get(person), looked_at=given.HasField("identity"))
        )
    indexes = sorted(index for track in tracks for index in track.scene.indexes)
    if indexes != list(range(len(detections))):
        raise Invalid("each detection must be in exactly one track", "BAD_TRACK")
    if len({track.id for track in tracks}) < len(tracks):
        raise Invalid("two tracks have the same id", "BAD_TRACK")
    return tuple(tracks)


def derived_tracks(
    event_id: str,
    detections: Sequence[EvidenceDetection],
    zones: Sequence[SceneZone],
    lines: Sequence[SceneLine],
    ground: Ground | None,
) -> tuple[EvidenceTrack, ...]:
    """With the ids that the store gives them. Without boxes there are no tracks."""
    seen = [
        SeenObject(found.label, found.score, found.box, found.captured_at, found.media_id, found.stands)
        for found in detections
        if found.box
    ]
    if len(seen) < len(detections):
        return ()
    return tuple(
        EvidenceTrack(track_id(event_id, detections[track.indexes[0]].id), track)
        for track in derive_tracks(seen, zones, lines, ground)
    )


def _contradiction(track: SceneTrack, detections: Sequence[EvidenceDetection]) -> str | None:
    """What is wrong with a given track, as the end of a sentence."""
    found = [detections[index] for index in track.indexes]
    if any(each.label != track.label for each in found):
        return "has detections of another label"
    frames = [(each.captured_at, each.media_id) for each in found]
    if frames != sorted({*frames}):
        return "must name one detection of each frame, in order of capture"
    if track.stationary and track.label not in VEHICLES:
        return "is stationary, which only vehicles are"
    stays = [time for visit in track.visits for time in (visit.start, visit.end)]
    crossings = [crossing.time for crossing in track.crossings]
    for times in (stays, crossings):
        if any(later < earlier for earlier, later in pairwise((found[0].captured_at, *times))):
            return "has visits or crossings that are not in order of time, or before its first detection"
        if times and times[-1] > found[-1].captured_at:
            return "has visits or crossings after its last detection"
    return None
