"""Remembers the vehicles that stand before one camera: a pure function of the camera's frames in log order.

It uses no clock and no database, and its result does not depend on how the frames are split into batches.
Times are microseconds since 1970 (UTC). People and animals are never remembered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple
from uuid import UUID

from mesh.scene.daylight import is_broad_daylight
from mesh.scene.geometry import Box, area, common_area, likeness
from mesh.scene.tracks import SAME, VEHICLES
from store_svc.times import SECOND, moment

# A vehicle stands there once it was seen in that many frames over that time, and has left when so many
# frames in a row, over that time, lack it.
STANDS_FRAMES, STANDS_TIME = 3, 600 * SECOND
LEFT_FRAMES, LEFT_TIME = 3, 10 * SECOND
FORGOTTEN_TIME = 30 * 86_400 * SECOND
MOST_VEHICLES = 64  # of one camera

# A vehicle that is known to stand there is still seen if the detector is no longer sure of it. What covers so
# much of its box hides it, if it is certain enough not to be a ghost: nobody knows then whether it is there.
SEEN_SCORE, HIDING_SCORE, HIDING_SHARE = 0.15, 0.3, 0.5

# A place that is too dark looks empty, so in the dark a vehicle has left only if one was seen moving there: a
# certain finding that touches its box but does not hide it, so soon after a frame that showed the vehicle
# with this share of its best score, and so soon before the first one that lacks it. What the dusk makes fade
# is not sure any more when a car passes.
MOVED_TIME, SURE_SHARE = 120 * SECOND, 0.5


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

    `sure_at` is the capture time of the latest frame that surely showed it, `moved_at` that of the latest one
    since it was last seen in which a vehicle moved there, and `accompanied` the number of frames that showed
    something else beside it.
    """

    id: UUID
    label: str
    score: float
    box: Box
    first_at: int
    last_at: int
    looked_at: int
    sure_at: int
    frames: int = 1
    accompanied: int = 0
    missed: int = 0
    missed_at: int | None = None
    moved_at: int | None = None
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

    def see(self, thing: SeenThing, at: int, *, accompanied: bool) -> None:
        self.frames += 1
        self.accompanied += accompanied
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
        if thing.score >= SURE_SHARE * self.score:
            self.sure_at = at
        self.missed, self.missed_at, self.moved_at = 0, None, None

    def miss(self, at: int) -> None:
        if self.missed_at is None:
            self.missed_at = at
        self.missed += 1
        self.looked_at = at

    def leaves_with(self, thing: SeenThing, at: int) -> bool:
        """Whether this vehicle, which moves and is certain enough, can be it: it has just been there."""
        return (
            at - self.sure_at <= MOVED_TIME
            and common_area(self.box, thing.box) > 0
            and not self.is_hidden_by(thing)
        )

    def moved_before(self, at: int) -> bool:
        """Whether a vehicle moved there shortly before the first frame that lacks it, of which this may be
        the first."""
        first = at if self.missed_at is None else self.missed_at
        return self.moved_at is not None and first - self.moved_at <= MOVED_TIME

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
    """The vehicles of one camera in this time zone (an IANA name), by id. `newest_at` is the latest capture
    time of its media so far, and `changed` the ids of those that have come, changed or gone.

    Capture time decides. A frame that was captured before the one that a vehicle was last looked for in
    changes nothing of it, and one that was captured before the newest media brings no vehicle: what came
    later is known already. Its detections of a vehicle that stood there at the time are recognised all the
    same.
    """

    def __init__(self, vehicles: Iterable[Vehicle], newest_at: int, time_zone: str) -> None:
        self.vehicles = {vehicle.id: vehicle for vehicle in vehicles}
        self.changed: set[UUID] = set()
        self.newest_at = newest_at
        self._time_zone = time_zone

    def look(self, at: int, things: Sequence[SeenThing], findings: int) -> Look:
        """`things` are the findings of a frame that can matter: those below the threshold tell, too, that a
        vehicle is still there. `findings` is the number of all."""
        seen = [thing for thing in things if thing.label in VEHICLES and thing.score >= SEEN_SCORE]
        self._forget(at)
        standing = self._standing(at, seen)
        came, left = self._look_for_all(at, seen, things, findings)
        if at >= self.newest_at:
            for thing in seen:
                self._remember(at, thing, findings)
        return Look(standing, came, left) if standing or came or left else NOTHING

    def _standing(self, at: int, seen: Sequence[SeenThing]) -> frozenset[UUID]:
        """The kept ones among these things that show vehicles that stood there before this frame."""
        stood = [each for each in self.vehicles.values() if each.stands and each.first_at <= at]
        return frozenset(
            thing.detection_id for thing in seen if thing.detection_id and _shows_one(thing, stood)
        )

    def _look_for_all(
        self, at: int, seen: Sequence[SeenThing], things: Sequence[SeenThing], findings: int
    ) -> tuple[list[Vehicle], list[Vehicle]]:
        """Returns who is known to stand there from now on, and who has left."""
        came: list[Vehicle] = []
        left: list[Vehicle] = []
        stood_before = [vehicle for vehicle in self.vehicles.values() if vehicle.stands]
        # As all stood before this frame: what it shows changes the vehicles one after the other.
        moving = [
            thing for thing in seen if thing.score >= HIDING_SCORE and not _shows_one(thing, stood_before)
        ]
        for vehicle in list(self.vehicles.values()):
            if at <= vehicle.looked_at:
                continue
            stood = vehicle.stands
            likest = _likest(vehicle.box, seen)
            if likest is not None:
                vehicle.see(likest, at, accompanied=findings > 1)
                if vehicle.stands and not stood:
                    came.append(vehicle)
            else:
                if any(vehicle.leaves_with(thing, at) for thing in moving):
                    vehicle.moved_at = at
                    self.changed.add(vehicle.id)
                if any(vehicle.is_hidden_by(thing) for thing in things) or not self._can_tell(
                    vehicle, at, findings
                ):
                    continue
                vehicle.miss(at)
                if vehicle.has_left:
                    del self.vehicles[vehicle.id]
                    if stood:
                        left.append(vehicle)
            self.changed.add(vehicle.id)
        for vehicle in came:
            self._replace_earlier(vehicle)
        return sorted(came, key=_age), _distinct(sorted(left, key=_age))

    def _can_tell(self, vehicle: Vehicle, at: int, findings: int) -> bool:
        """Whether a frame that does not show the vehicle would show it if it were there.

        In the dark nobody knows. Nor does a frame in which nothing at all is found, not even a ghost, if most
        of those that showed the vehicle showed more: the camera is covered, or blinded. What is not known to
        stand there is missed in any case, or those who pass by night would add up to one that stands.
        """
        if not vehicle.stands or vehicle.moved_before(at):
            return True
        blind = findings == 0 and 2 * vehicle.accompanied > vehicle.frames
        return not blind and is_broad_daylight(moment(at), self._time_zone)

    def _replace_earlier(self, vehicle: Vehicle) -> None:
        """Forgets what stood in the same place before it and was not seen since it came."""
        thing = SeenThing(vehicle.label, vehicle.score, vehicle.box)
        for other in list(self.vehicles.values()):
            if other.last_at < vehicle.first_at and other.is_hidden_by(thing):
                self._drop(other)

    def _remember(self, at: int, thing: SeenThing, findings: int) -> None:
        """Remembers a kept vehicle that was not there before."""
        if thing.detection_id is None:
            return
        if _shows_one(thing, self.vehicles.values()):
            return
        id = thing.detection_id
        self.vehicles[id] = Vehicle(
            id, thing.label, thing.score, thing.box, at, at, at, at, accompanied=int(findings > 1)
        )
        self.changed.add(id)
        if len(self.vehicles) > MOST_VEHICLES:
            self._drop(min(self.vehicles.values(), key=lambda each: (each.stands, each.last_at, each.id)))

    def _forget(self, at: int) -> None:
        forgotten = [each for each in self.vehicles.values() if at - each.last_at > FORGOTTEN_TIME]
        for vehicle in forgotten:
            self._drop(vehicle)

    def _drop(self, vehicle: Vehicle) -> None:
        del self.vehicles[vehicle.id]
        self.changed.add(vehicle.id)


def _shows_one(thing: SeenThing, vehicles: Iterable[Vehicle]) -> bool:
    return any(likeness(vehicle.box, thing.box) >= SAME for vehicle in vehicles)


def _likest(box: Box, seen: Sequence[SeenThing]) -> SeenThing | None:
    """What shows the vehicle in this box: the likest one, then the most certain one."""
    likest, best = None, (SAME, -inf)
    for thing in seen:
        found = likeness(box, thing.box), thing.score
        if found > best:
            likest, best = thing, found
    return likest


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
