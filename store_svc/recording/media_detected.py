"""Records MediaDetected: the media, its frames and detections, and the events that they join."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import chain
from uuid import UUID

import structlog
from cachetools import LRUCache
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import insert, select, union_all

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.events_pb2 import MediaKept
from mesh.delivery import Delivery
from mesh.identity import departure_event_id
from mesh.media_types import is_clip
from mesh.scene.media_links import CLOCK_SECONDS
from mesh.telemetry.spans import sampled_traceparent
from mesh.topics import DETECTED
from store_svc.database.statement import Connection, Statement, copy_rows, one_of, unnested, unnested_values
from store_svc.database.tables import detections, frames, kept_outbox, media, tombstones
from store_svc.detectors import DetectorRecorder
from store_svc.domain.assembly import AssemblyLimits, Timeline, event_windows
from store_svc.domain.camera_scene import camera_watch
from store_svc.domain.event import AddedFrame, AddedFrames, StoredEvent
from store_svc.domain.evidence import History
from store_svc.domain.queued_event import QueuedEvent
from store_svc.domain.vehicle_memory import Vehicle
from store_svc.domain.watch_policy import ModelThresholds, WatchPolicy, WatchSettings
from store_svc.event_repository import load_detection_ids, load_queued, load_spans, write_events, write_unseen
from store_svc.house.contexts import HouseContexts
from store_svc.ids import parse_uuid
from store_svc.job_queue import write_jobs
from store_svc.recording.camera_locks import LockedCamera, lock_or_create_cameras
from store_svc.recording.decided_media import DecidedFrame, DecidedMedia, apply_policy
from store_svc.recording.evidence_freezer import Departed, EvidenceFreezer, OpenedEvent, left_event
from store_svc.recording.habit_books import HabitCounter
from store_svc.recording.media_record import DetectionRecord, MediaRecord, read_media
from store_svc.recording.recorder import WRITE_FILES, Effect, file_values
from store_svc.recording.vehicle_memories import Departure, VehicleMemories
from store_svc.times import moment, stamp

log = structlog.get_logger(__name__)

# Kept in memory: a policy for each configuration in use, and the detections of events that may grow.
MAX_POLICIES, MAX_GROWING_EVENTS = 4096, 128

_KNOWN = Statement(
    union_all(
        select(media.c.id).where(one_of(media.c.id, "ids")),
        select(tombstones.c.id).where(tombstones.c.kind == "media", one_of(tombstones.c.id, "ids")),
    )
)


_FRAME = {column.name: column for column in frames.columns}
_KEPT = {"camera_id": kept_outbox.c.camera_id, "body": kept_outbox.c.body}


def _write() -> Statement:
    """One statement for three tables: each statement of its own costs as much as several rows."""
    frame = unnested("frame", _FRAME)
    kept = unnested("kept", _KEPT, ordinality="place")
    write_frames = insert(frames).from_select(list(_FRAME), select(*[frame.c[name] for name in _FRAME]))
    write_kept = insert(kept_outbox).from_select(
        list(_KEPT), select(*[kept.c[name] for name in _KEPT]).order_by(kept.c.place)
    )
    return Statement(write_kept.add_cte(write_frames.cte("written_frames"), WRITE_FILES.cte("written_files")))


_WRITE_FRAMES_KEPT_AND_FILES = _write()


@dataclass(slots=True)
class _Joined:
    """What a batch adds to one event. `history` is set if the batch opens the event."""

    camera_id: str
    partition: int
    history: History | None = None
    frames: list[AddedFrame] = field(default_factory=list)
    traceparent: str | None = None

    def add(self, frame: AddedFrame, traceparent: str | None) -> None:
        """The assessment continues the trace of the last photo for the fast path, or else of the last one."""
        if frame.urgent or not any(before.urgent for before in self.frames):
            self.traceparent = traceparent
        self.frames.append(frame)


@dataclass(slots=True)
class _Assembled:
    """Where a batch belongs: what each event gains, the rows of the table `detections`, and the event that
    each frame (media id, index) joined, if it joined one. `order` are the frames that joined events, and
    `departed` who has left, in the order of the log."""

    events: dict[UUID, _Joined] = field(default_factory=dict)
    detections: list[dict[str, object]] = field(default_factory=list)
    event_of_frame: dict[tuple[UUID, int], UUID] = field(default_factory=dict)
    order: list[tuple[UUID, AddedFrame]] = field(default_factory=list)
    departed: list[Departed] = field(default_factory=list)

    def add_detections(
        self, item: MediaRecord, frame: DecidedFrame, event_id: UUID | None, number: int | None
    ) -> None:
        """`number` is that of the first one in the event; it and `event_id` are None if there is no event."""
        captured_at = moment(frame.frame.at)
        for place, (kept, zones) in enumerate(zip(frame.kept, frame.zones, strict=True)):
            numbered = None if number is None else number + place
            stands = kept.id in frame.standing
            self.detections.append(_detection_row(kept, zones, item, event_id, captured_at, numbered, stands))


class MediaDetectedRecorder:
    """The first MediaDetected of a media decides; of later ones only the file is remembered.

    One of known content, in which nothing was detected, never decides. If the media is not known after all,
    for example to a database that was restored from a backup, then its file is not remembered either, and
    ingest_svc announces it again.
    """

    topic = DETECTED

    def __init__(
        self,
        limits: AssemblyLimits,
        watch: WatchSettings,
        time_zone: str,
        houses: HouseContexts,
        clock: Callable[[], datetime],
        clock_seconds: float = CLOCK_SECONDS,
    ) -> None:
        """`time_zone` is an IANA name, for cameras that have none. `clock_seconds` is by how much the clocks
        of two media of one camera may differ."""
        self._limits = limits
        self._watch = watch
        self._time_zone = time_zone
        self._clock = clock
        self._detectors = DetectorRecorder()
        self._policy = lru_cache(MAX_POLICIES)(self._make_policy)
        self._freezer = EvidenceFreezer(houses, time_zone, clock_seconds)
        self._habits = HabitCounter(time_zone)
        # By the digest of an event's evidence, the ids of its detections.
        self._known_detections: LRUCache[str, Sequence[UUID]] = LRUCache(MAX_GROWING_EVENTS)

    def read(self, delivery: Delivery[MediaDetected]) -> MediaRecord:
        return read_media(delivery.message, delivery.partition, sampled_traceparent(delivery.headers))

    async def write(self, connection: Connection, items: Sequence[MediaRecord]) -> Effect:
        now = self._clock()
        cameras, created = await lock_or_create_cameras(connection, items, now)
        items = [item for item in items if not cameras[item.camera_id].deleted]
        first, recorded = await _first_of_each(connection, items)
        decided = [apply_policy(item, self._policy_of(item, cameras[item.camera_id])) for item in first]
        zones = {id: camera.zone_or(self._time_zone) for id, camera in cameras.items()}
        memories = await VehicleMemories.load(connection, decided, zones)
        new = memories.recognise(decided)
        assembled = await self._assemble(connection, new, memories.departures)
        memories.set_events(assembled.event_of_frame)
        rows = [_media_row(item, cameras[item.record.camera_id], now) for item in new]
        await copy_rows(connection, media, rows)
        at = stamp(now)
        await _WRITE_FRAMES_KEPT_AND_FILES.execute(
            connection,
            **unnested_values("frame", _FRAME, [row for item in new for row in _frame_rows(item)]),
            **unnested_values(
                "kept",
                _KEPT,
                [_kept_row(item, assembled, cameras[item.record.camera_id], at) for item in new],
            ),
            **file_values(item.file for item in items if item.media_id in recorded),
        )
        await self._detectors.report(
            connection, (item.record.model for item in new if item.record.model), now
        )
        queued = await self._add_to_events(connection, assembled, memories.arrivals, cameras, now)
        jobs = [each.job for each in queued if each.job]
        await write_jobs(connection, jobs)
        await copy_rows(connection, detections, assembled.detections)
        await memories.write(connection)
        opened = [each.event for each in queued if each.event.revision == 1]
        grown = [each.event for each in queued if each.event.revision > 1 and each.seen_change]
        names = {id: camera.display_name for id, camera in cameras.items()}
        await write_unseen(connection, [each.event for each in queued if not each.seen_change])
        await write_events(connection, opened, grown, names, now)
        return Effect(outbox=bool(opened or grown or created), due=bool(jobs), kept=bool(new))

    def _policy_of(self, item: MediaRecord, camera: LockedCamera) -> WatchPolicy | None:
        """The policy with the camera's configuration as of this transaction."""
        model = item.model
        if model is None:
            return None
        return self._policy(camera.thresholds, camera.scene, model.threshold, model.fast_threshold)

    def _make_policy(
        self, thresholds: str, scene: bytes, threshold: float, fast_threshold: float
    ) -> WatchPolicy:
        model = ModelThresholds(threshold, fast_threshold)
        return WatchPolicy.of(self._watch, camera_watch(json.loads(thresholds), scene), model)

    async def _assemble(
        self,
        connection: Connection,
        new: Sequence[DecidedMedia],
        departures: Mapping[tuple[UUID, int], Departure],
    ) -> _Assembled:
        """Finds the event of every frame in which something counts that does not stand there as always."""
        times = [
            (item.record.camera_id, frame.frame.at)
            for item in new
            for frame in item.frames
            if frame.joins_an_event
        ]
        times += [
            (item.record.camera_id, departure.began_at)
            for item in new
            for frame in item.frames
            if departures and (departure := departures.get((item.record.media_id, frame.frame.index)))
        ]
        spans = await load_spans(connection, event_windows(times, self._limits))
        timelines: dict[str, Timeline] = {}
        assembled = _Assembled()
        for decided in new:
            item = decided.record
            timeline = timelines.get(item.camera_id)
            if timeline is None:
                known = spans.get(item.camera_id, {}).values()
                timeline = timelines[item.camera_id] = Timeline(known, self._limits)
            seen: set[UUID] = set()
            for frame in decided.frames:
                if departures and (left := departures.get((item.media_id, frame.frame.index))):
                    id = parse_uuid(departure_event_id(item.message.media.id, frame.frame.index))
                    assembled.departed.append(Departed(id, item, left, timeline.before(left.began_at)))
                if not frame.joins_an_event:
                    assembled.add_detections(item, frame, None, None)
                    continue
                event_id, number, history = timeline.place(frame.to_assembly(item.message.media.id))
                event = assembled.events.get(event_id)
                if event is None:
                    event = _Joined(item.camera_id, item.partition, history)
                    assembled.events[event_id] = event
                of_clip = is_clip(item.message.media.type)
                added = _added_frame(frame, event_id not in seen, of_clip)
                event.add(added, item.traceparent)
                assembled.order.append((event_id, added))
                seen.add(event_id)
                assembled.event_of_frame[item.media_id, frame.frame.index] = event_id
                assembled.add_detections(item, frame, event_id, number)
        return assembled

    async def _add_to_events(
        self,
        connection: Connection,
        assembled: _Assembled,
        arrivals: Sequence[Vehicle],
        cameras: Mapping[str, LockedCamera],
        now: datetime,
    ) -> list[QueuedEvent]:
        """The events, opened or loaded, with what joined them; those in which vehicles came that are known
        now to stay; and those of vehicles that have left. Must precede writing the new detections."""
        joined = assembled.events
        events: dict[UUID, QueuedEvent] = {}
        old = {id for id, event in joined.items() if event.history is None}
        came_before = {vehicle.event_id for vehicle in arrivals if vehicle.event_id} - joined.keys()
        if old or came_before:
            events = await load_queued(connection, sorted(old | came_before))
        known = await self._detection_ids_of(connection, [each.event for each in events.values()])
        order = [(id, joined[id].camera_id, frame) for id, frame in assembled.order]
        begun = {id: each.event for id, each in events.items()}
        stays, usual = await self._habits.count(connection, order, begun, cameras)
        opened = [
            OpenedEvent(id, event.camera_id, event.frames[0].at, event.history, habits=usual.get(id, ()))
            for id, event in joined.items()
            if event.history is not None
        ]
        frozen = await self._freezer.freeze(
            connection, opened, assembled.departed, arrivals, events.keys(), cameras
        )
        for id, event in joined.items():
            zone = cameras[event.camera_id].zone_or(self._time_zone)
            if id not in events:
                at = event.frames[0].at
                events[id] = QueuedEvent(StoredEvent(id, event.camera_id, at, at, (), now, time_zone=zone))
            stored = events[id].event
            stored.stays = stays.get(id, stored.stays)
            if id in frozen:
                stored.frozen_digest = frozen[id].digest
            added = AddedFrames(tuple(event.frames), zone, event.partition, event.traceparent)
            before = known.get(id, ())
            events[id].add_frames(added, before, now)
            ids = (*before, *(id for frame in event.frames for id in frame.detection_ids))
            self._known_detections[stored.evidence_digest] = ids
        for id in came_before & events.keys() & frozen.keys():
            events[id].amend(frozen[id].digest, known.get(id, ()), now)
        for departed in assembled.departed:
            id = departed.event_id
            zone = cameras[departed.camera_id].zone_or(self._time_zone)
            events[id] = QueuedEvent(left_event(departed, frozen[id], zone, now))
        unchanged = came_before - frozen.keys()
        return [event for id, event in events.items() if id not in unchanged]

    async def _detection_ids_of(
        self, connection: Connection, events: Sequence[StoredEvent]
    ) -> dict[UUID, Sequence[UUID]]:
        """By event, the ids of its detections. The digest of its evidence tells whether those that are
        remembered are all there are."""
        known = {event.id: self._known_detections.get(event.evidence_digest) for event in events}
        if missing := [id for id, ids in known.items() if ids is None]:
            known |= await load_detection_ids(connection, missing)
        return {id: ids or () for id, ids in known.items()}


def _added_frame(frame: DecidedFrame, first_of_media: bool, of_clip: bool) -> AddedFrame:
    ids, labels = tuple([kept.id for kept in frame.kept]), frozenset([kept.label for kept in frame.kept])
    zones = frozenset(chain.from_iterable(frame.zones))
    places: frozenset[tuple[str, str]] = frozenset()
    if zones:
        pairs = zip(frame.kept, frame.zones, strict=True)
        places = frozenset((kept.label, zone) for kept, found in pairs for zone in found)
    return AddedFrame(frame.frame.at, ids, labels, frame.urgent, first_of_media, zones, places, of_clip)


def _detection_row(
    kept: DetectionRecord,
    zones: Sequence[str],
    item: MediaRecord,
    event_id: UUID | None,
    captured_at: datetime,
    number: int | None,
    stands: bool,
) -> dict[str, object]:
    return {
        "id": kept.id,
        "media_id": item.media_id,
        "event_id": event_id,
        "camera_id": item.camera_id,
        "frame": kept.frame,
        "label": kept.label,
        "score": kept.score,
        "box": kept.box,
        "captured_at": captured_at,
        "rank": kept.rank,
        "zones": zones,
        "number": number,
        "stands": stands,
    }


def _media_row(item: DecidedMedia, camera: LockedCamera, now: datetime) -> dict[str, object]:
    return {
        **item.record.row,
        "detection_count": item.kept_count,
        "recorded_at": now,
        "camera_revision": camera.revision if item.policy else None,
        "policy_digest": item.policy.digest if item.policy else None,
        "poster_frame": item.poster_frame,
    }


def _frame_rows(item: DecidedMedia) -> list[dict[str, object]]:
    """Of the frames that the store has filtered."""
    if item.policy is None:
        return []
    return [
        {
            "media_id": item.record.media_id,
            "index": decided.frame.index,
            "captured_at": moment(decided.frame.at),
            "width": decided.frame.width,
            "height": decided.frame.height,
            "motion_significance": decided.frame.motion_significance,
            "dropped": decided.packed(),
        }
        for decided in item.frames
    ]


def _kept_row(
    item: DecidedMedia, assembled: _Assembled, camera: LockedCamera, recorded_at: Timestamp
) -> dict[str, object]:
    """A row of the outbox, with the record of store.kept.v1."""
    message, media_id = item.record.message, item.record.media_id
    kept = MediaKept(
        detector=message.detector,
        camera_revision=camera.revision if item.policy else 0,
        policy_digest=item.policy.digest if item.policy else "",
    )
    # As arguments they would be copied twice.
    kept.media.CopyFrom(message.media)
    kept.detected_at.CopyFrom(message.detected_at)
    kept.recorded_at.CopyFrom(recorded_at)
    for frame in item.frames:
        frame.add_to(kept, assembled.event_of_frame.get((media_id, frame.frame.index)))
    return {"camera_id": item.record.camera_id, "body": kept.SerializeToString()}


async def _first_of_each(
    connection: Connection, items: Sequence[MediaRecord]
) -> tuple[list[MediaRecord], set[UUID]]:
    """The first record of each media that is neither known nor deleted, in the order of the log; and the ids
    of all media that are recorded then."""
    before = {row["id"] for row in await _KNOWN.fetch(connection, ids=list({i.media_id for i in items}))}
    first: dict[UUID, MediaRecord] = {}
    for item in items:
        if not item.known and item.media_id not in before:
            first.setdefault(item.media_id, item)
    recorded = before | first.keys()
    for item in items:
        if item.media_id not in recorded:
            log.warning("content is not known after all", camera=item.camera_id, media=str(item.media_id))
    return list(first.values()), recorded
