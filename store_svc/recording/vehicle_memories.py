"""Applies the memory of vehicles to a batch of media, and keeps it in the table `vehicles`.

The cameras must be locked already. A batch of cameras before which no vehicle stands, and in which none is
kept, costs one statement.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from mesh.boxes import edges
from mesh.scene.geometry import Box
from mesh.scene.tracks import VEHICLES
from store_svc.database.statement import Connection, Record, Statement, one_of, parameter, unnested
from store_svc.database.tables import media, vehicles
from store_svc.domain.vehicle_memory import HIDING_SCORE, SEEN_SCORE, SeenThing, Vehicle, VehicleMemory
from store_svc.recording.decided_media import DecidedFrame, DecidedMedia
from store_svc.recording.record_fields import EARLIEST
from store_svc.times import micros, moment

_LOAD = Statement(select(vehicles).where(one_of(vehicles.c.camera_id, "camera_ids")))
_camera = unnested("camera", {"id": media.c.camera_id})
# One look into an index for each camera, however many media it has.
_NEWEST = Statement(
    select(
        _camera.c.id,
        select(func.max(media.c.captured_at))
        .where(media.c.camera_id == _camera.c.id)
        .scalar_subquery()
        .label("newest_at"),
    )
)
_new = insert(vehicles).values({column.name: parameter(column.name, column) for column in vehicles.columns})
_WRITE = Statement(
    _new.on_conflict_do_update(
        index_elements=[vehicles.c.id],
        set_={
            column.name: _new.excluded[column.name]
            for column in vehicles.columns
            if column.name not in ("id", "camera_id", "event_id", "first_at")
        },
    )
)
_DELETE = Statement(delete(vehicles).where(one_of(vehicles.c.id, "ids")))


class Departure(NamedTuple):
    """These vehicles have left by the frame that was captured `at`, in microseconds."""

    vehicles: Sequence[Vehicle]
    at: int

    @property
    def began_at(self) -> int:
        """When the first frame that lacks one of them was captured."""
        return min(vehicle.missed_at or self.at for vehicle in self.vehicles)


class VehicleMemories:
    """The memories of the cameras of a batch. `departures` are by frame (media id, index); `arrivals` are
    vehicles that are known since a frame of the batch to stand there, as they were then, in the order of the
    log."""

    def __init__(self, memories: Mapping[str, VehicleMemory], known: Collection[UUID]) -> None:
        """`known` are the ids of the vehicles that the table has."""
        self._memories = memories
        self._known = known
        self.departures: dict[tuple[UUID, int], Departure] = {}
        self.arrivals: list[Vehicle] = []
        # In which frame (media id, index) a vehicle came that the batch has begun to remember.
        self._came_in: dict[UUID, tuple[UUID, int]] = {}

    @classmethod
    async def load(
        cls, connection: Connection, new: Sequence[DecidedMedia], time_zones: Mapping[str, str]
    ) -> "VehicleMemories":
        """`time_zones` are the IANA names of the cameras' zones, by camera."""
        rows = await _LOAD.fetch(connection, camera_ids=list({item.record.camera_id for item in new}))
        found: dict[str, list[Vehicle]] = {}
        for row in rows:
            found.setdefault(row["camera_id"], []).append(_vehicle(row))
        keeping = {item.record.camera_id for item in new if _keeps_vehicle(item)}
        newest: dict[str, int] = {}
        if keeping:
            latest = await _NEWEST.fetch(connection, camera_id=list(keeping))
            newest = {row["id"]: micros(row["newest_at"]) for row in latest if row["newest_at"]}
        memories = {
            camera: VehicleMemory(found.get(camera, ()), newest.get(camera, EARLIEST), time_zones[camera])
            for camera in {*found, *keeping}
        }
        return cls(memories, {row["id"] for row in rows})

    def recognise(self, new: Sequence[DecidedMedia]) -> list[DecidedMedia]:
        """Looks at all frames, in the order of the log. Returns the media with what was recognised."""
        return [self._recognise(item) for item in new]

    def _recognise(self, item: DecidedMedia) -> DecidedMedia:
        memory = self._memories.get(item.record.camera_id)
        if memory is None:
            return item
        frames = [self._look(memory, item, frame) for frame in item.frames]
        memory.newest_at = max(memory.newest_at, item.record.at)
        return item._replace(frames=frames)

    def _look(self, memory: VehicleMemory, item: DecidedMedia, frame: DecidedFrame) -> DecidedFrame:
        before = set(memory.vehicles)
        look = memory.look(frame.frame.at, _things(frame), len(frame.kept) + len(frame.dropped))
        place = item.record.media_id, frame.frame.index
        for id in memory.vehicles.keys() - before:
            self._came_in[id] = place
        if look.left:
            self.departures[place] = Departure(look.left, frame.frame.at)
        self.arrivals.extend(map(replace, look.came))
        return frame._replace(standing=look.standing) if look.standing else frame

    def set_events(self, event_of_frame: Mapping[tuple[UUID, int], UUID]) -> None:
        """`event_of_frame` is the event that each frame (media id, index) of the batch joined."""
        remembered = [vehicle for memory in self._memories.values() for vehicle in memory.vehicles.values()]
        for vehicle in [*remembered, *self.arrivals]:
            if vehicle.id in self._came_in:
                vehicle.event_id = event_of_frame[self._came_in[vehicle.id]]

    async def write(self, connection: Connection) -> None:
        """Must follow `set_events`."""
        rows: list[dict[str, object]] = []
        gone: list[UUID] = []
        for camera_id, memory in self._memories.items():
            for id in memory.changed:
                vehicle = memory.vehicles.get(id)
                if vehicle is None:
                    gone.append(id)
                    continue
                rows.append(_row(camera_id, vehicle))
        if gone := [id for id in gone if id in self._known]:
            await _DELETE.execute(connection, ids=gone)
        if rows:
            await _WRITE.execute_many(connection, rows)


def _keeps_vehicle(item: DecidedMedia) -> bool:
    return any(kept.label in VEHICLES for frame in item.frames for kept in frame.kept)


def _things(frame: DecidedFrame) -> list[SeenThing]:
    """The findings that can matter, those that are kept first, each in order of rank: vehicles, and what is
    certain enough to hide one."""
    things = [SeenThing(row.label, row.score, _box(row.box), row.id) for row in frame.kept]
    for found, _ in frame.dropped:
        score = found.score
        if score >= HIDING_SCORE or (score >= SEEN_SCORE and found.label in VEHICLES):
            things.append(SeenThing(found.label, score, edges(found.bounding_box)))
    return things


def _box(edges: Sequence[float]) -> Box:
    x_min, y_min, x_max, y_max = edges
    return x_min, y_min, x_max, y_max


def _row(camera_id: str, vehicle: Vehicle) -> dict[str, object]:
    return {
        "id": vehicle.id,
        "camera_id": camera_id,
        "label": vehicle.label,
        "score": vehicle.score,
        "box": vehicle.box,
        "first_at": moment(vehicle.first_at),
        "last_at": moment(vehicle.last_at),
        "looked_at": moment(vehicle.looked_at),
        "sure_at": moment(vehicle.sure_at),
        "frames": vehicle.frames,
        "accompanied": vehicle.accompanied,
        "missed": vehicle.missed,
        "missed_at": None if vehicle.missed_at is None else moment(vehicle.missed_at),
        "moved_at": None if vehicle.moved_at is None else moment(vehicle.moved_at),
        "event_id": vehicle.event_id,
    }


def _vehicle(row: Record) -> Vehicle:
    return Vehicle(
        id=row["id"],
        label=row["label"],
        score=row["score"],
        box=_box(row["box"]),
        first_at=micros(row["first_at"]),
        last_at=micros(row["last_at"]),
        looked_at=micros(row["looked_at"]),
        sure_at=micros(row["sure_at"]),
        frames=row["frames"],
        accompanied=row["accompanied"],
        missed=row["missed"],
        missed_at=None if row["missed_at"] is None else micros(row["missed_at"]),
        moved_at=None if row["moved_at"] is None else micros(row["moved_at"]),
        event_id=row["event_id"],
    )
