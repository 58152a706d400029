"""Freezes the evidence of the events that a batch opens, and amends that of those in which vehicles came that
are known now to stay."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from lares.reason.v1.evidence_pb2 import CHANGE_KIND_CAME, CHANGE_KIND_WENT, Change, Evidence
from mesh.scene.places import GROUND_ID
from store_svc.database.statement import Connection, copy_rows
from store_svc.database.tables import event_evidence
from store_svc.domain.derived_evidence import Surroundings
from store_svc.domain.event import StoredEvent
from store_svc.domain.evidence import History, digest_v2
from store_svc.domain.frozen_evidence import FrozenEvidence, change_of, freeze, frozen_scene, with_change
from store_svc.domain.habits import UsualBehaviour
from store_svc.domain.vehicle_memory import Vehicle
from store_svc.frozen_bodies import load_frozen, update_bodies
from store_svc.house.contexts import HouseContexts
from store_svc.recording.camera_locks import LockedCamera
from store_svc.recording.habit_books import habit_message
from store_svc.recording.media_record import MediaRecord
from store_svc.recording.vehicle_memories import Departure
from store_svc.times import moment

MAX_SCENES = 4096  # kept in memory


class OpenedEvent(NamedTuple):
    """An event that begins `at`, in microseconds, with what was usual then."""

    event_id: UUID
    camera_id: str
    at: int
    history: History
    habits: Sequence[UsualBehaviour] = ()


class Departed(NamedTuple):
    """Vehicles have left: an event of its own, which no frame joins."""

    event_id: UUID
    item: MediaRecord
    departure: Departure
    history: History

    @property
    def camera_id(self) -> str:
        return self.item.camera_id

    @property
    def at(self) -> int:
        return self.departure.began_at


class EvidenceFreezer:
    def __init__(self, houses: HouseContexts, time_zone: str, clock_seconds: float) -> None:
        """`time_zone` is an IANA name, for cameras that have none. `clock_seconds` is by how much the clocks
        of two media of one camera may differ."""
        self._houses, self._clock_seconds = houses, clock_seconds
        self._time_zone = time_zone
        self._frozen_scene = lru_cache(MAX_SCENES)(frozen_scene)
        self._surroundings = lru_cache(MAX_SCENES)(_surroundings)

    async def freeze(
        self,
        connection: Connection,
        opened: Sequence[OpenedEvent],
        departed: Sequence[Departed],
        arrivals: Sequence[Vehicle],
        begun: Collection[UUID],
        cameras: Mapping[str, LockedCamera],
    ) -> dict[UUID, FrozenEvidence]:
        """What is frozen of the events that the batch opens, as of their first frame in the log, and as of
        the cameras' configuration in this transaction; and of those in which the vehicles of `arrivals` came,
        with that change. Writes it, too. `begun` are the events that exist."""
        new: list[OpenedEvent | Departed] = [*opened, *departed]
        moments = [(each.camera_id, moment(each.at)) for each in new]
        houses = await self._houses.houses_at(connection, moments)
        frozen: dict[UUID, FrozenEvidence] = {}
        for each, house in zip(new, houses, strict=True):
            camera = cameras[each.camera_id]
            usual = each.habits if isinstance(each, OpenedEvent) else ()
            frozen[each.event_id] = freeze(
                self._frozen_scene(camera.scene),
                camera.id,
                camera.display_name,
                camera.zone_or(self._time_zone),
                each.history,
                house,
                habits=list(map(habit_message, usual)),
                changes=self._departures(each, camera) if isinstance(each, Departed) else (),
                clock_seconds=self._clock_seconds,
            )
        came_in = [(vehicle.event_id, vehicle) for vehicle in arrivals if vehicle.event_id]
        before = await load_frozen(connection, [id for id, _ in came_in if id in begun])
        for id, vehicle in came_in:
            if known := frozen.get(id) or before.get(id):  # an earlier version has frozen nothing
                surroundings = self._surroundings(known.scene)
                change = change_of(vehicle, CHANGE_KIND_CAME, vehicle.first_at, surroundings)
                frozen[id] = with_change(known, change)
        rows = [
            {
                "event_id": each.event_id,
                "scene": frozen[each.event_id].scene,
                "body": frozen[each.event_id].body,
                "camera_revision": cameras[each.camera_id].revision,
            }
            for each in new
        ]
        await copy_rows(connection, event_evidence, rows)
        await update_bodies(connection, {id: frozen[id].body for id in before})
        return frozen

    def _departures(self, departed: Departed, camera: LockedCamera) -> list[Change]:
        surroundings = self._surroundings(self._frozen_scene(camera.scene))
        return [
            change_of(vehicle, CHANGE_KIND_WENT, vehicle.missed_at or departed.at, surroundings)
            for vehicle in departed.departure.vehicles
        ]


def _surroundings(scene: bytes) -> Surroundings:
    """`scene` is a serialised Evidence."""
    return Surroundings.of(Evidence.FromString(scene))


def left_event(departed: Departed, frozen: FrozenEvidence, time_zone: str, now: datetime) -> StoredEvent:
    """The event that vehicles have left."""
    changes = frozen.message().changes
    return StoredEvent(
        departed.event_id,
        departed.camera_id,
        departed.at,
        departed.departure.at,
        (),
        now,
        partition=departed.item.partition,
        revision=1,
        labels=frozenset(change.thing for change in changes),
        zones=frozenset(change.zone_id for change in changes if change.zone_id not in ("", GROUND_ID)),
        time_zone=time_zone,
        frozen_digest=frozen.digest,
        evidence_digest=digest_v2((), frozen.digest),
        evidence_revision=1,
        traceparent=departed.item.traceparent,
    )
