"""Counts what happens in the zones of the cameras of a batch, in the table `habits`, and says what is usual.

The cameras must be locked already. Cameras without zones cost nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import and_, delete, func, select, true
from sqlalchemy.dialects.postgresql import insert

from lares.reason.v1 import evidence_pb2
from store_svc.database.statement import Connection, Statement, unnested, unnested_values
from store_svc.database.tables import habits
from store_svc.domain.camera_scene import camera_watch
from store_svc.domain.event import AddedFrame, StoredEvent
from store_svc.domain.habits import (
    WINDOW_DAYS,
    Bucket,
    CountedBehaviour,
    CountedPlace,
    HabitBook,
    Stays,
    UsualBehaviour,
    local_half_hour,
    polygon_digest,
    window_of,
    with_frame,
)
from store_svc.recording.camera_locks import LockedCamera

MAX_SCENES = 4096  # kept in memory

_ROW = {column.name: column for column in habits.columns}
_WINDOW = {
    "camera_id": habits.c.camera_id,
    "first_day": habits.c.day,
    "last_day": habits.c.day,
    "earliest": habits.c.half_hour,
    "latest": habits.c.half_hour,
}
_window = unnested("window", _WINDOW)
_newest = (
    select(func.max(habits.c.day).label("day"))
    .where(habits.c.camera_id == _window.c.camera_id)
    .lateral("newest")
)
_counted = habits.alias("counted")
_LOAD = Statement(
    select(
        _window.c.camera_id.label("of_camera"),
        _newest.c.day.label("newest_day"),
        *[_counted.c[name] for name in _ROW],
    ).select_from(
        _window.join(_newest, true()).outerjoin(
            _counted,
            and_(
                _counted.c.camera_id == _window.c.camera_id,
                _counted.c.day.between(_window.c.first_day, _window.c.last_day),
                _counted.c.half_hour.between(_window.c.earliest, _window.c.latest),
            ),
        )
    )
)
_added = unnested("added", _ROW)
_insert = insert(habits).from_select(list(_ROW), select(*[_added.c[name] for name in _ROW]))
_ADD = Statement(
    _insert.on_conflict_do_update(
        index_elements=list(habits.primary_key.columns),
        set_={"events": habits.c.events + _insert.excluded.events},
    )
)
_limit = unnested("limit_", {"camera_id": habits.c.camera_id, "day": habits.c.day})
_DROP = Statement(delete(habits).where(habits.c.camera_id == _limit.c.camera_id, habits.c.day < _limit.c.day))


class HabitMoment(NamedTuple):
    """An event of that time zone begins, `at` in microseconds."""

    camera_id: str
    at: int
    zone: ZoneInfo


class CountedFrame(NamedTuple):
    """A frame that joins an event of that time zone, in a camera with zones. `places` are what it shows in
    which zone; `opens` says whether it opens the event."""

    event_id: UUID
    moment: HabitMoment
    places: Sequence[CountedPlace]
    opens: bool


async def count_habits(
    connection: Connection,
    frames: Sequence[CountedFrame],
    stays: Mapping[UUID, Stays],
    polygons: Mapping[str, Mapping[str, str]],
) -> tuple[dict[UUID, Stays], dict[UUID, Sequence[UsualBehaviour]]]:
    """Counts these frames, in the order of the log. `stays` are those of the events that exist, `polygons`
    the digests of the cameras' zones by camera and zone. Returns the stays of all events of the frames, and
    what was usual when those began that they open. One statement reads, and one or two write."""
    if not frames:
        return {}, {}
    cameras = sorted({frame.moment.camera_id for frame in frames})
    books = await load_books(connection, cameras, [frame.moment for frame in frames if frame.opens])
    counted: dict[UUID, Stays] = {}
    usual: dict[UUID, Sequence[UsualBehaviour]] = {}
    for frame in frames:
        id, (camera_id, at, zone) = frame.event_id, frame.moment
        book = books[camera_id]
        if frame.opens:
            usual[id] = book.habits_at(at, zone, polygons[camera_id])
        before = counted.get(id, stays.get(id, ()))
        counted[id] = with_frame(before, at, frame.places)
        book.count(before, counted[id], zone)
    await write_books(connection, books)
    return counted, usual


class HabitCounter:
    def __init__(self, time_zone: str) -> None:
        """`time_zone` is an IANA name, for cameras that have none."""
        self._time_zone = time_zone
        self._polygons = lru_cache(MAX_SCENES)(polygon_digests)

    async def count(
        self,
        connection: Connection,
        order: Sequence[tuple[UUID, str, AddedFrame]],
        begun: Mapping[UUID, StoredEvent],
        cameras: Mapping[str, LockedCamera],
    ) -> tuple[Mapping[UUID, Stays], Mapping[UUID, Sequence[UsualBehaviour]]]:
        """Counts what joins events (id, camera id, frame), in the order of the log. `begun` are the events
        that exist. Returns the stays of events in cameras with zones, and what was usual when those began
        that are opened."""
        polygons = {id: found for id, camera in cameras.items() if (found := self._polygons(camera.scene))}
        frames: list[CountedFrame] = []
        known = set(begun)
        for id, camera_id, frame in order:
            zones = polygons.get(camera_id)
            if zones is None:
                continue
            zone = begun[id].time_zone if id in begun else cameras[camera_id].zone_or(self._time_zone)
            places = [CountedPlace(label, zone_id, zones[zone_id]) for label, zone_id in frame.places]
            began = HabitMoment(camera_id, frame.at, ZoneInfo(zone))
            frames.append(CountedFrame(id, began, places, opens=id not in known))
            known.add(id)
        stays = {id: event.stays for id, event in begun.items()}
        return await count_habits(connection, frames, stays, polygons)


async def load_books(
    connection: Connection, cameras: Sequence[str], opened: Sequence[HabitMoment]
) -> dict[str, HabitBook]:
    """The books of these cameras, with all counts that these events, which are theirs, are compared with."""
    windows = [{"camera_id": camera, **_EMPTY} for camera in cameras]
    for camera_id, at, zone in opened:
        days_and_half_hours = window_of(*local_half_hour(at, zone))
        windows.append(dict(zip(_WINDOW, (camera_id, *days_and_half_hours), strict=True)))
    if not windows:
        return {}
    counts: dict[str, dict[Bucket, int]] = {camera: {} for camera in cameras}
    newest: dict[str, date | None] = {}
    for row in await _LOAD.fetch(connection, **unnested_values("window", _WINDOW, windows)):
        newest[row["of_camera"]] = row["newest_day"]
        if row["camera_id"] is not None:
            place = CountedPlace(row["label"], row["zone_id"], row["polygon_digest"])
            bucket = Bucket(place, CountedBehaviour(row["behaviour"]), row["half_hour"], row["day"])
            counts[row["of_camera"]][bucket] = row["events"]
    return {camera: HabitBook(counts[camera], newest[camera]) for camera in cameras}


async def write_books(connection: Connection, books: Mapping[str, HabitBook]) -> None:
    """Adds what was counted, and drops what lies before the window of the newest day."""
    rows: list[dict[str, object]] = []
    for camera_id, book in books.items():
        for (place, behaviour, half_hour, day), number in book.added.items():
            rows.append(
                {
                    "camera_id": camera_id,
                    "half_hour": half_hour,
                    "day": day,
                    "label": place.label,
                    "zone_id": place.zone_id,
                    "polygon_digest": place.polygon,
                    "behaviour": behaviour,
                    "events": number,
                }
            )
    if rows:
        rows.sort(key=lambda row: [str(value) for value in row.values()])
        await _ADD.execute(connection, **unnested_values("added", _ROW, rows))
    if moved := [(camera_id, book.oldest_day) for camera_id, book in books.items() if book.has_moved]:
        limits = [{"camera_id": camera_id, "day": day} for camera_id, day in moved]
        await _DROP.execute(connection, **unnested_values("limit_", ("camera_id", "day"), limits))


def polygon_digests(scene: bytes) -> dict[str, str]:
    """By zone of a camera's scene, a serialised CameraScene."""
    return {zone.id: polygon_digest(zone.area) for zone in camera_watch({}, scene).zones}


def habit_message(habit: UsualBehaviour) -> evidence_pb2.Habit:
    return evidence_pb2.Habit(
        label=habit.label,
        zone_id=habit.zone_id,
        behaviour=evidence_pb2.Behaviour.ValueType(habit.behaviour),
        days_seen=habit.days_seen,
        days=WINDOW_DAYS,
    )


# A window without a day.
_EMPTY = {"first_day": date.max, "last_day": date.min, "earliest": 0, "latest": 0}
