"""Remembers the vehicles that stand before one camera: a pure function of the camera's frames in log order.

It uses no clock and no database, and its result does not depend on how the frames are split into batches.
Times are microseconds since 1970 (UTC). People and animals are never remembered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from mesh.scene.geometry import Box, area, common_area, likeness
from mesh.scene.tracks import SAME, VEHICLES
from store_svc.times import SECOND

# A vehicle stands there once it was seen in that many frames over that time, and has left when so many
# frames in a row, over that time, lack it.
STANDS_FRAMES, STANDS_TIME = 3, 600 * SECOND
LEFT_FRAMES, LEFT_TIME = 3, 10 * SECOND
FORGOTTEN_TIME = 30 * 86_400 * SECOND
MOST_VEHICLES = 64  # of one camera

# A vehicle that is known to stand there is still seen if the detector is no longer sure of it. What covers so
# much of its box hides it, if it is certain enough not to be a ghost: nobody knows then whether it is there.
SEEN_SCORE, HIDING_SCORE, HIDING_SHARE = 0.15, 0.3, 0.5


class SeenThing(NamedTuple):
    """A finding. `detection_id` is set if it is kept."""

    label: str
    score: float
    box: Box
    detection_id: UUID | None = None


@dataclass(slots=True)
class Vehicle:
    """A vehicle that stands there, or perhaps only passes: which of the two, time will tell.

    `id` is that of its first detection, `label` and `score` are those of the most certain one, and `box` is
    the mean of all `frames` that showed it. `looked_at` is the capture time of the latest frame that showed
    or lacked it, `missed` the number of frames that lack it since it was last seen, and `missed_at` the
    capture time of the first of them. `event_id` is the event in which it came.
    """

    id: UUID
    label: str
    score: float
    box: Box
    first_at: int
    last_at: int
    looked_at: int
    frames: int = 1
    missed: int = 0
    missed_at: int | None = None
    event_id: UUID | None = None

    @property
    def stands(self) -> bool:
        return self.frames >= STANDS_FRAMES and self.last_at - self.first_at >= STANDS_TIME

    @property
    def has_left(self) -> bool:
        return (
            self.missed >= LEFT_FRAMES
            and self.missed_at is not None
            and self.looked_at - self.missed_at >= LEFT_TIME
        )

    def see(self, thing: SeenThing, at: int) -> None:
        self.frames += 1
        old, new = self.box, thing.box
        self.box = (
            old[0] + (new[0] - old[0]) / self.frames,
            old[1] + (new[1] - old[1]) / self.frames,
            old[2] + (new[2] - old[2]) / self.frames,
            old[3] + (new[3] - old[3]) / self.frames,
        )
        if thing.score > self.score:
            self.label, self.score = thing.label, thing.score
        self.last_at = self.looked_at = at
        self.missed, self.missed_at = 0, None

    def miss(self, at: int) -> None:
        if self.missed_at is None:
            self.missed_at = at
        self.missed += 1
        self.looked_at = at

    def is_hidden_by(self, thing: SeenThing) -> bool:
        return thing.score >= HIDING_SCORE and common_area(self.box, thing.box) >= HIDING_SHARE * area(
            self.box
        )


class Look(NamedTuple):
    """What one frame tells. `standing` are the ids of the detections that show vehicles that stood there
    before; `came` are vehicles that are known from now on to stand there, and `left` those that did and have
    left."""

    standing: frozenset[UUID] = frozenset()
    came: Sequence[Vehicle] = ()
    left: Sequence[Vehicle] = ()


NOTHING = Look()


class VehicleMemory:
    """The vehicles of one camera, by id. `newest_at` is the latest capture time of its media so far, and
    `changed` the ids of those that have come, changed or gone.

    Capture time decides. A frame that was captured before the one that a vehicle was last looked for in
    changes nothing of it, and one that was captured before the newest media brings no vehicle: what came
    later is known already. Its detections of a vehicle that stood there at the time are recognised all the
    same.
    """

    def __init__(self, vehicles: Iterable[Vehicle], newest_at: int) -> None:
        self.vehicles = {vehicle.id: vehicle for vehicle in vehicles}
        self.changed: set[UUID] = set()
        self.newest_at = newest_at

    def look(self, at: int, things: Sequence[SeenThing]) -> Look:
        """`things` are all findings of a frame: those below the threshold tell, too, that a vehicle is still
        there."""
        seen = [thing for thing in things if thing.label in VEHICLES and thing.score >= SEEN_SCORE]
        self._forget(at)
        standing = self._standing(at, seen)
        came, left = self._look_for_all(at, seen, things)
        if at >= self.newest_at:
            for thing in seen:
                self._remember(at, thing)
        return Look(standing, came, left) if standing or came or left else NOTHING

    def _standing(self, at: int, seen: Sequence[SeenThing]) -> frozenset[UUID]:
        """The kept ones among these things that show vehicles that stood there before this frame."""
        stood = [each for each in self.vehicles.values() if each.stands and each.first_at <= at]
        return frozenset(
            thing.detection_id
            for thing in seen
            if thing.detection_id and any(likeness(each.box, thing.box) >= SAME for each in stood)
        )

    def _look_for_all(
        self, at: int, seen: Sequence[SeenThing], things: Sequence[SeenThing]
    ) -> tuple[list[Vehicle], list[Vehicle]]:
        """Returns who is known to stand there from now on, and who has left."""
        came: list[Vehicle] = []
        left: list[Vehicle] = []
        for vehicle in list(self.vehicles.values()):
            if at <= vehicle.looked_at:
                continue
            stood = vehicle.stands
            likest = max(
                seen, key=lambda thing: (likeness(vehicle.box, thing.box), thing.score), default=None
            )
            if likest and likeness(vehicle.box, likest.box) >= SAME:
                vehicle.see(likest, at)
                if vehicle.stands and not stood:
                    came.append(vehicle)
            elif any(vehicle.is_hidden_by(thing) for thing in things):
                continue
            else:
                vehicle.miss(at)
                if vehicle.has_left:
                    del self.vehicles[vehicle.id]
                    if stood:
                        left.append(vehicle)
            self.changed.add(vehicle.id)
        for vehicle in came:
            self._replace_earlier(vehicle)
        return sorted(came, key=_age), _distinct(sorted(left, key=_age))

    def _replace_earlier(self, vehicle: Vehicle) -> None:
        """Forgets what stood in the same place before it and was not seen since it came."""
        thing = SeenThing(vehicle.label, vehicle.score, vehicle.box)
        for other in list(self.vehicles.values()):
            if other.last_at < vehicle.first_at and other.is_hidden_by(thing):
                self._drop(other)

    def _remember(self, at: int, thing: SeenThing) -> None:
        """Remembers a kept vehicle that was not there before."""
        if thing.detection_id is None:
            return
        if any(likeness(vehicle.box, thing.box) >= SAME for vehicle in self.vehicles.values()):
            return
        id = thing.detection_id
        self.vehicles[id] = Vehicle(id, thing.label, thing.score, thing.box, at, at, at)
        self.changed.add(id)
        if len(self.vehicles) > MOST_VEHICLES:
            self._drop(min(self.vehicles.values(), key=lambda each: (each.stands, each.last_at, each.id)))

    def _forget(self, at: int) -> None:
        for vehicle in list(self.vehicles.values()):
            if at - vehicle.last_at > FORGOTTEN_TIME:
                self._drop(vehicle)

    def _drop(self, vehicle: Vehicle) -> None:
        del self.vehicles[vehicle.id]
        self.changed.add(vehicle.id)


def _distinct(left: Sequence[Vehicle]) -> list[Vehicle]:
    """One of those that were in the same place: two boxes of one vehicle, which flickered between them."""
    distinct: list[Vehicle] = []
    for vehicle in sorted(left, key=lambda each: -each.frames):
        thing = SeenThing(vehicle.label, vehicle.score, vehicle.box)
        if not any(other.is_hidden_by(thing) for other in distinct):
            distinct.append(vehicle)
    return sorted(distinct, key=_age)


def _age(vehicle: Vehicle) -> tuple[int, UUID]:
    return vehicle.first_at, vehicle.id
