"""Records MediaDetected: the media, its frames and detections, and the events that they join."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import structlog
from sqlalchemy import insert, select, union_all

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.events_pb2 import MediaKept
from mesh.delivery import Delivery
from mesh.telemetry.spans import sampled_traceparent
from mesh.topics import DETECTED
from store_svc.database.statement import Connection, Statement, copy_rows, one_of, unnested, unnested_values
from store_svc.database.tables import detections, frames, kept_outbox, media, tombstones
from store_svc.detectors import DetectorRecorder
from store_svc.domain.assembly import AssemblyLimits, Timeline, event_windows
from store_svc.domain.event import AddedFrame, AddedFrames, StoredEvent
from store_svc.domain.evidence import History
from store_svc.domain.queued_event import QueuedEvent
from store_svc.domain.watch_policy import CameraWatch, ModelThresholds, WatchPolicy, WatchSettings
from store_svc.event_repository import load_detection_ids, load_queued, load_spans, write_events
from store_svc.job_queue import write_jobs
from store_svc.recording.camera_locks import LockedCamera, lock_or_create_cameras
from store_svc.recording.decided_media import DecidedFrame, DecidedMedia, apply_policy
from store_svc.recording.media_record import DetectionRecord, MediaRecord, read_media
from store_svc.recording.recorder import Effect, write_files
from store_svc.times import moment, stamp

log = structlog.get_logger(__name__)

MAX_POLICIES = 4096  # kept in memory: one for each configuration in use

_KNOWN = Statement(
    union_all(
        select(media.c.id).where(one_of(media.c.id, "ids")),
        select(tombstones.c.id).where(tombstones.c.kind == "media", one_of(tombstones.c.id, "ids")),
    )
)


_FRAME = {column.name: column for column in frames.columns}
_KEPT = {"camera_id": kept_outbox.c.camera_id, "body": kept_outbox.c.body}


def _write_frames_and_kept() -> Statement:
    """One statement for two tables saves a round trip: every media has rows in both."""
    frame = unnested("frame", _FRAME)
    kept = unnested("kept", _KEPT, ordinality="place")
    write_frames = insert(frames).from_select(list(_FRAME), select(*[frame.c[name] for name in _FRAME]))
    write_kept = insert(kept_outbox).from_select(
        list(_KEPT), select(*[kept.c[name] for name in _KEPT]).order_by(kept.c.place)
    )
    return Statement(write_kept.add_cte(write_frames.cte("written_frames")))


_WRITE_FRAMES_AND_KEPT = _write_frames_and_kept()


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
    each frame (media id, index) joined."""

    events: dict[UUID, _Joined] = field(default_factory=dict)
    detections: list[dict[str, object]] = field(default_factory=list)
    event_of_frame: dict[tuple[UUID, int], UUID] = field(default_factory=dict)


class MediaDetectedRecorder:
    """The first MediaDetected of a media decides; of later ones only the file is remembered.

    One of known content, in which nothing was detected, never decides. If the media is not known after all,
    for example to a database that was restored from a backup, then its file is not remembered either, and
    ingest_svc announces it again.
    """

    topic = DETECTED

    def __init__(
        self, limits: AssemblyLimits, watch: WatchSettings, time_zone: str, clock: Callable[[], datetime]
    ) -> None:
        """`time_zone` is an IANA name, for cameras that have none."""
        self._limits = limits
        self._watch = watch
        self._time_zone = time_zone
        self._clock = clock
        self._detectors = DetectorRecorder()
        self._policy = lru_cache(MAX_POLICIES)(self._make_policy)

    def read(self, delivery: Delivery[MediaDetected]) -> MediaRecord:
        return read_media(delivery.message, delivery.partition, sampled_traceparent(delivery.headers))

    async def write(self, connection: Connection, items: Sequence[MediaRecord]) -> Effect:
        now = self._clock()
        cameras, created = await lock_or_create_cameras(connection, items, now)
        items = [item for item in items if not cameras[item.camera_id].deleted]
        first, recorded = await _first_of_each(connection, items)
        new = [apply_policy(item, self._policy_of(item, cameras[item.camera_id])) for item in first]
        assembled = await self._assemble(connection, new)
        rows = [_media_row(item, cameras[item.record.camera_id], now) for item in new]
        await copy_rows(connection, media, rows)
        await _write_frames(connection, new, assembled.event_of_frame, cameras, now)
        models = (item.record.message.model for item in new if item.policy)
        await self._detectors.report(connection, models, now)
        await write_files(connection, (item.file for item in items if item.media_id in recorded))
        queued = await self._add_to_events(connection, assembled.events, cameras, now)
        jobs = [each.job for each in queued if each.job]
        await write_jobs(connection, jobs)
        await copy_rows(connection, detections, assembled.detections)
        opened = [each.event for each in queued if each.event.revision == 1]
        grown = [each.event for each in queued if each.event.revision > 1]
        names = {id: camera.display_name for id, camera in cameras.items()}
        await write_events(connection, opened, grown, names, now)
        return Effect(outbox=bool(queued or created), due=bool(jobs))

    def _policy_of(self, item: MediaRecord, camera: LockedCamera) -> WatchPolicy | None:
        """The policy with the camera's configuration as of this transaction."""
        model = item.model
        if model is None:
            return None
        return self._policy(camera.thresholds, ModelThresholds(model.threshold, model.fast_threshold))

    def _make_policy(self, thresholds: str, model: ModelThresholds) -> WatchPolicy:
        return WatchPolicy.of(self._watch, CameraWatch(json.loads(thresholds)), model)

    async def _assemble(self, connection: Connection, new: Sequence[DecidedMedia]) -> _Assembled:
        """Finds the event of every frame in which something counts."""
        times = (
            (item.record.camera_id, frame.frame.at) for item in new for frame in item.frames if frame.kept
        )
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
                if not frame.kept:
                    continue
                event_id, history = timeline.place(frame.to_assembly(item.message.media.id))
                event = assembled.events.setdefault(
                    event_id, _Joined(item.camera_id, item.partition, history)
                )
                event.add(_added_frame(frame, event_id not in seen), item.traceparent)
                seen.add(event_id)
                assembled.event_of_frame[item.media_id, frame.frame.index] = event_id
                captured_at = moment(frame.frame.at)
                assembled.detections.extend(
                    _detection_row(kept, item, event_id, captured_at) for kept in frame.kept
                )
        return assembled

    async def _add_to_events(
        self,
        connection: Connection,
        joined: Mapping[UUID, _Joined],
        cameras: Mapping[str, LockedCamera],
        now: datetime,
    ) -> list[QueuedEvent]:
        """The events, opened or loaded, with what joined them. Must precede writing the new detections."""
        old = [id for id, event in joined.items() if event.history is None]
        events = await load_queued(connection, old) if old else {}
        known = await load_detection_ids(connection, old) if old else {}
        for id, event in joined.items():
            if event.history is not None:
                at = event.frames[0].at
                events[id] = QueuedEvent(StoredEvent(id, event.camera_id, at, at, event.history, now))
            zone = cameras[event.camera_id].time_zone or self._time_zone
            added = AddedFrames(tuple(event.frames), zone, event.partition, event.traceparent)
            events[id].add_frames(added, known.get(id, ()), now)
        return list(events.values())


def _added_frame(frame: DecidedFrame, first_of_media: bool) -> AddedFrame:
    ids, labels = tuple(kept.id for kept in frame.kept), frozenset(kept.label for kept in frame.kept)
    return AddedFrame(frame.frame.at, ids, labels, frame.urgent, first_of_media)


def _detection_row(
    kept: DetectionRecord, item: MediaRecord, event_id: UUID, captured_at: datetime
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
    }


def _media_row(item: DecidedMedia, camera: LockedCamera, now: datetime) -> dict[str, object]:
    return {
        **item.record.row,
        "detection_count": item.kept_count,
        "recorded_at": now,
        "camera_revision": camera.revision if item.policy else None,
        "policy_digest": item.policy.digest if item.policy else None,
    }


def _frame_row(media_id: UUID, decided: DecidedFrame) -> dict[str, object]:
    frame = decided.frame
    return {
        "media_id": media_id,
        "index": frame.index,
        "captured_at": moment(frame.at),
        "width": frame.width,
        "height": frame.height,
        "motion_significance": frame.motion_significance,
        "dropped": decided.packed(),
    }


def _kept_row(
    item: DecidedMedia, event_of_frame: Mapping[tuple[UUID, int], UUID], camera: LockedCamera, now: datetime
) -> dict[str, object]:
    """A row of the outbox, with the record of store.kept.v1."""
    message, media_id = item.record.message, item.record.media_id
    kept = MediaKept(
        media=message.media,
        detector=message.detector,
        detected_at=message.detected_at,
        frames=[frame.message(event_of_frame.get((media_id, frame.frame.index))) for frame in item.frames],
        camera_revision=camera.revision if item.policy else 0,
        policy_digest=item.policy.digest if item.policy else "",
        recorded_at=stamp(now),
    )
    return {"camera_id": item.record.camera_id, "body": kept.SerializeToString()}


async def _write_frames(
    connection: Connection,
    new: Sequence[DecidedMedia],
    event_of_frame: Mapping[tuple[UUID, int], UUID],
    cameras: Mapping[str, LockedCamera],
    now: datetime,
) -> None:
    """Writes the frames that the store has filtered, and an outbox row for each media."""
    if not new:
        return
    rows = [_frame_row(item.record.media_id, frame) for item in new if item.policy for frame in item.frames]
    kept = [_kept_row(item, event_of_frame, cameras[item.record.camera_id], now) for item in new]
    await _WRITE_FRAMES_AND_KEPT.execute(
        connection, **unnested_values("frame", _FRAME, rows), **unnested_values("kept", _KEPT, kept)
    )


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
