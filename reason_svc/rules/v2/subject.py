"""What the rules ask about one thing in an event, and about the whole event. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from mesh.scene.daylight import Light
from mesh.scene.doubts import is_tall, is_too_large
from mesh.scene.places import GROUND_ID, SceneZone, ZoneKind
from mesh.scene.tracks import VEHICLES, Direction, SceneTrack
from reason_svc.evidence import (
    ChangeKind,
    Evidence,
    EvidenceDetection,
    EvidenceTrack,
    Relation,
    SceneChange,
)

PERSON = "person"
LIVESTOCK = frozenset(("cow", "goat", "horse", "sheep"))

# From midnight to five nobody comes by chance.
DEAD_OF_NIGHT_HOURS = 5
# A camera's picture is taken to be 16:9, for the shape of a person who lies.
PICTURE_ASPECT = 16 / 9
LYING_ASPECT, LYING_SECONDS, LYING_FRAMES = 1.15, 15.0, 3
OPEN_TO_ALL = {ZoneKind.PUBLIC, ZoneKind.APPROACH}
OPEN_TO_VISITORS = {*OPEN_TO_ALL, ZoneKind.ENTRY}
FAINT_FRAMES, FAINT_SCORE = 2, 0.6
PASSING_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Subject:
    """One track, with what the rules ask about it. `detections` are in order of capture; `seconds` are those
    of the stays in each kind of place, `kinds` the places in order of time. `in_doubted_zone`: it was in a
    public zone that cannot be right, so that nobody knows where it was."""

    track: EvidenceTrack
    detections: Sequence[EvidenceDetection]
    seconds: Mapping[ZoneKind, float]
    kinds: Sequence[ZoneKind]
    in_doubted_zone: bool

    @property
    def label(self) -> str:
        return self.track.scene.label

    @property
    def is_person(self) -> bool:
        return self.label == PERSON

    @property
    def is_vehicle(self) -> bool:
        return self.label in VEHICLES

    @property
    def started_at(self) -> datetime:
        return self.detections[0].captured_at

    @property
    def ended_at(self) -> datetime:
        return self.detections[-1].captured_at

    @property
    def duration(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def best_score(self) -> float:
        return max(found.score for found in self.detections)

    @property
    def height(self) -> float:
        """The greatest share of the picture's height."""
        return height_of(self.detections)

    @property
    def is_known(self) -> bool:
        """Whether somebody has named the person, and he is welcome."""
        return self.track.person is not None and not self.is_unwelcome

    @property
    def is_unwelcome(self) -> bool:
        return self.track.person is not None and self.track.person.relation is Relation.UNWELCOME

    @property
    def stands(self) -> bool:
        return self.is_vehicle and self.track.scene.stationary

    @property
    def stood_before(self) -> bool:
        """Whether it is a vehicle that earlier photos have shown in the same place."""
        return self.is_vehicle and all(found.stands for found in self.detections)

    @property
    def is_faint(self) -> bool:
        return len(self.detections) <= FAINT_FRAMES and self.best_score < FAINT_SCORE

    @property
    def in_public_only(self) -> bool:
        return set(self.kinds) == {ZoneKind.PUBLIC}

    @property
    def in_the_open(self) -> bool:
        """Whether it was only where everybody may be."""
        return bool(self.kinds) and {*self.kinds} <= OPEN_TO_ALL and not self.in_doubted_zone

    @property
    def on_the_ground(self) -> bool:
        """Whether it was on ground of the house."""
        return bool({*self.kinds} - {ZoneKind.PUBLIC, ZoneKind.APPROACH})

    @property
    def came_inwards(self) -> bool:
        """Whether it crossed a line inwards, or came from public ground onto private ground."""
        crossed = any(one.direction is Direction.INWARDS for one in self.track.scene.crossings)
        return crossed or self.came_from_public_onto_private

    @property
    def came_from_public_onto_private(self) -> bool:
        """A public zone that cannot be right counts, too: the doubt hides nothing."""
        private = {ZoneKind.PRIVATE, ZoneKind.WINDOW, ZoneKind.INSIDE}
        kinds = [visit.place.kind for visit in self.track.scene.visits]
        return ZoneKind.PUBLIC in kinds and not private.isdisjoint(kinds[kinds.index(ZoneKind.PUBLIC) :])

    @property
    def came_as_visitors_do(self) -> bool:
        """Whether it came as visitors do: by an approach or to a door first, perhaps from public ground."""
        first = next((kind for kind in self.kinds if kind is not ZoneKind.PUBLIC), None)
        return first in (ZoneKind.APPROACH, ZoneKind.ENTRY)

    @property
    def came_out(self) -> bool:
        """Whether it was first seen at a door, and then elsewhere."""
        return len(self.kinds) > 1 and self.kinds[0] is ZoneKind.ENTRY

    @property
    def passes(self) -> bool:
        """Whether it was seen for a short time only, and stayed nowhere."""
        return (
            len(self.detections) > 1 and self.duration <= PASSING_SECONDS and not self.track.scene.stationary
        )

    @property
    def stays(self) -> bool:
        """As habits are counted."""
        return self.duration > PASSING_SECONDS or self.track.scene.stationary

    def is_seen_beside(self, other: "Subject") -> bool:
        """Whether one frame shows both: what follows after another may be the same thing."""
        return other is not self and not self.frames.isdisjoint(other.frames)

    @property
    def frames(self) -> Set[tuple[datetime, str]]:
        return {(found.captured_at, found.media_id) for found in self.detections}

    def was_in(self, *kinds: ZoneKind) -> bool:
        return any(kind in self.kinds for kind in kinds)

    @property
    def seems_to_lie(self) -> bool:
        """Whether it is a person who appears lying in every frame, however few there are."""
        return self.is_person and len(self.detections) > 1 and len(self._flat()) == len(self.detections)

    def lying(self) -> Sequence[EvidenceDetection]:
        """The detections of a person who lies for at least LYING_SECONDS; empty if nobody does."""
        if not self.is_person:
            return ()
        flat = self._flat()
        if len(flat) < LYING_FRAMES:
            return ()
        seconds = (flat[-1].captured_at - flat[0].captured_at).total_seconds()
        return flat if seconds >= LYING_SECONDS else ()

    def _flat(self) -> Sequence[EvidenceDetection]:
        return [
            found
            for found in self.detections
            if found.box
            and (found.box[2] - found.box[0]) * PICTURE_ASPECT > LYING_ASPECT * (found.box[3] - found.box[1])
        ]


@dataclass(frozen=True, slots=True)
class EventScene:
    """One event as the rules see it."""

    evidence: Evidence
    subjects: Sequence[Subject]

    @property
    def dark(self) -> bool:
        return self.evidence.light is Light.DARK

    @property
    def dead_of_night(self) -> bool:
        began = self.evidence.began_at.astimezone(self.evidence.time_zone)
        return self.dark and began.hour < DEAD_OF_NIGHT_HOURS

    @property
    def away(self) -> bool:
        return self.evidence.mode == "away"

    @property
    def home(self) -> bool:
        return self.evidence.mode == "home"

    @property
    def people(self) -> Sequence[Subject]:
        return [subject for subject in self.subjects if subject.is_person]

    @property
    def gone(self) -> Sequence[SceneChange]:
        """What went. What goes from public ground is not the house's."""
        return self._changes(ChangeKind.WENT)

    @property
    def come(self) -> Sequence[SceneChange]:
        """What came to stay, but for what came to public ground."""
        return self._changes(ChangeKind.CAME)

    @property
    def main_change(self) -> SceneChange:
        """Of a vehicle if there is one; the first of these."""
        return min(
            self.evidence.changes, key=lambda change: (change.thing not in VEHICLES, change.at, change.thing)
        )

    def _changes(self, kind: ChangeKind) -> Sequence[SceneChange]:
        return [
            change
            for change in self.evidence.changes
            if change.kind is kind and not (change.place and change.place.kind is ZoneKind.PUBLIC)
        ]

    def stood_there(self, subject: Subject) -> bool:
        """Whether it is a vehicle that stands where one stood before: as its detections say, or because an
        event of the hour before had as many vehicles in these places as stand there now."""
        if subject.stood_before or not subject.stands:
            return subject.stood_before
        standing = sum(one.stands for one in self.subjects)
        return any(past.stationary_matches >= standing for past in self.evidence.past)

    def past_events_with(self, label: str) -> int:
        return sum(label in past.labels for past in self.evidence.past)

    def past_seconds(self, kind: ZoneKind, label: str) -> float:
        """How long things of this label stayed in places of this kind in the hour before."""
        return sum(
            stay.seconds
            for past in self.evidence.past
            for stay in past.stays
            if stay.place.kind is kind and stay.label == label
        )


def height_of(found: Iterable[EvidenceDetection]) -> float:
    """The greatest share of the picture's height."""
    return max((one.box[3] - one.box[1] for one in found if one.box), default=0.0)


def read_event(evidence: Evidence) -> EventScene:
    """Without tracks (evidence without boxes) each label is one thing in an unknown place."""
    tracks = evidence.tracks or _tracks_by_label(evidence)
    doubted = _doubted_zones(evidence)
    return EventScene(evidence, [_subject(evidence, track, doubted) for track in tracks])


def _subject(evidence: Evidence, track: EvidenceTrack, doubted: frozenset[str]) -> Subject:
    seconds: defaultdict[ZoneKind, float] = defaultdict(float)
    kinds: list[ZoneKind] = []
    doubtful = any(visit.place.zone_id in doubted for visit in track.scene.visits)
    for visit in track.scene.visits:
        if visit.place.zone_id not in doubted:
            seconds[visit.place.kind] += visit.seconds
            if not kinds or kinds[-1] is not visit.place.kind:
                kinds.append(visit.place.kind)
    return Subject(track, evidence.detections_of(track), seconds, kinds, doubtful)


def _doubted_zones(evidence: Evidence) -> frozenset[str]:
    """Public zones that cannot be right: what happens in them happens in an unknown place."""
    public = [zone for zone in evidence.zones if zone.kind is ZoneKind.PUBLIC]
    return frozenset(zone.id for zone in public if is_too_large(zone) or _holds_tall_people(zone, evidence))


def _holds_tall_people(zone: SceneZone, evidence: Evidence) -> bool:
    return any(
        visit.place.zone_id == zone.id
        and any(
            found.box and is_tall(found.box) and visit.start <= found.captured_at <= visit.end
            for found in evidence.detections_of(track)
        )
        for track in evidence.tracks
        if track.scene.label == PERSON
        for visit in track.scene.visits
        if visit.place.zone_id != GROUND_ID
    )


def _tracks_by_label(evidence: Evidence) -> tuple[EvidenceTrack, ...]:
    order = sorted(range(len(evidence.detections)), key=lambda index: evidence.detections[index].captured_at)
    indexes: defaultdict[str, list[int]] = defaultdict(list)
    for index in order:
        indexes[evidence.detections[index].label].append(index)
    return tuple(
        EvidenceTrack(label, SceneTrack(label, tuple(found), False, (), ()))
        for label, found in indexes.items()
    )
