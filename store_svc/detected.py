"""Records MediaDetected: media, detections, and the events that come of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import asyncpg

from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.events_pb2 import MediaKept
from mesh.delivery import Delivery
from mesh.telemetry.spans import sampled_traceparent
from mesh.topics import DETECTED
from store_svc.decided_media import DecidedFrame, DecidedMedia, apply_policy
from store_svc.detectors import ReportedDetectors
from store_svc.domain.assembly import AssemblyLimits, Timeline, event_windows
from store_svc.domain.event import AddedFrame, AddedFrames, StoredEvent
from store_svc.domain.evidence import History
from store_svc.domain.queued_event import QueuedEvent
from store_svc.domain.watch_policy import CameraWatch, ModelThresholds, WatchPolicy, WatchSettings
from store_svc.job_queue import write_jobs
from store_svc.recording import Effect, write_files
from store_svc.records import Arrival, arrival
from store_svc.repository import load_detection_ids, load_queued, load_spans, write_events
from store_svc.stubs import CameraRow, lock_or_make_cameras
from store_svc.tables import detections, frames, media
from store_svc.times import moment, stamp

MOST_POLICIES = 4096  # kept in memory: one for each configuration in use
FRAME_COLUMNS = len(frames.columns)

_KNOWN = """
SELECT id FROM media WHERE id = ANY($1::uuid[])
UNION ALL SELECT id FROM tombstones WHERE kind = 'media' AND id = ANY($1::uuid[])
"""
# Two tables in one round trip: every photo has a row in both.
_WRITE_FRAMES_AND_KEPT = """
WITH frame AS (
    INSERT INTO frames (media_id, index, captured_at, width, height, motion_significance, dropped)
    SELECT * FROM unnest(
        $1::uuid[], $2::int[], $3::timestamptz[], $4::int[], $5::int[], $6::real[], $7::bytea[]
    )
)
INSERT INTO kept_outbox (camera_id, body)
SELECT camera_id, body FROM unnest($8::text[], $9::bytea[]) WITH ORDINALITY AS kept (camera_id, body, place)
ORDER BY place
"""


@dataclass(slots=True)
class _Joined:
    """What one batch adds to one event; `history` where it opens it."""

    camera_id: str
    partition: int
    history: History | None = None
    additions: list[AddedFrame] = field(default_factory=list)
    traceparent: str | None = None

    def add(self, addition: AddedFrame, traceparent: str | None) -> None:
        """What is assessed follows from the photo that joined last, or the last one for the fast path."""
        if addition.urgent or not any(before.urgent for before in self.additions):
            self.traceparent = traceparent
        self.additions.append(addition)


class DetectedRecorder:
    """The first MediaDetected of a media wins whole; later ones only make their file known."""

    topic = DETECTED

    def __init__(
        self, limits: AssemblyLimits, watch: WatchSettings, time_zone: str, clock: Callable[[], datetime]
    ) -> None:
        """`time_zone`: IANA name, for cameras that have none."""
        self._limits = limits
        self._watch = watch
        self._time_zone = time_zone
        self._clock = clock
        self._detectors = ReportedDetectors()
        self._policy = lru_cache(MOST_POLICIES)(self._make_policy)

    def read(self, delivery: Delivery[MediaDetected]) -> Arrival:
        return arrival(delivery.message, delivery.partition, sampled_traceparent(delivery.headers))

    async def write(self, connection: "asyncpg.Connection", items: Sequence[Arrival]) -> Effect:
        now = self._clock()
        cameras, stubs = await lock_or_make_cameras(connection, items, now)
        items = [item for item in items if not cameras[item.camera_id].deleted]
        fresh = [
            apply_policy(item, self._policy_of(item, cameras[item.camera_id]))
            for item in await _first_of_each(connection, items)
        ]
        joined, rows, kept = await self._assemble(connection, fresh)
        await connection.copy_records_to_table(
            "media",
            records=[_media_row(item, cameras[item.arrival.camera_id], now) for item in fresh],
            columns=media.columns.keys(),
        )
        await _write_frames_and_kept(connection, fresh, kept, cameras, now)
        models = (item.arrival.message.model for item in fresh if item.policy)
        await self._detectors.report(connection, models, now)
        await write_files(connection, (item.file for item in items))
        queued = await self._grow(connection, joined, cameras, now)
        changed, jobs = [each.event for each in queued], [each.job for each in queued if each.job]
        await write_jobs(connection, jobs)
        if rows:  # a round trip: of most photos nothing counts
            await connection.copy_records_to_table(
                "detections", records=rows, columns=detections.columns.keys()
            )
        opened = [event for event in changed if event.revision == 1]
        grown = [event for event in changed if event.revision > 1]
        names = {id: camera.display_name for id, camera in cameras.items()}
        await write_events(connection, opened, grown, names, now)
        return Effect(outbox=bool(changed or stubs), due=bool(jobs))

    def _policy_of(self, item: Arrival, camera: CameraRow) -> WatchPolicy | None:
        """The one that decides now, with what the camera's locked row says."""
        model = item.model
        if model is None:
            return None
        return self._policy(camera.thresholds, ModelThresholds(model.threshold, model.fast_threshold))

    def _make_policy(self, thresholds: str, model: ModelThresholds) -> WatchPolicy:
        return WatchPolicy.of(self._watch, CameraWatch(json.loads(thresholds)), model)

    async def _assemble(
        self, connection: "asyncpg.Connection", fresh: Sequence[DecidedMedia]
    ) -> tuple[dict[UUID, _Joined], list[tuple[object, ...]], dict[tuple[UUID, int], UUID]]:
        """Places every frame; what each event gains, the rows of the detections, and the event that each
        frame (media, index) joined."""
        placing = (
            (item.arrival.camera_id, frame.frame.at) for item in fresh for frame in item.frames if frame.kept
        )
        spans = await load_spans(connection, event_windows(placing, self._limits))
        timelines: dict[str, Timeline] = {}
        joined: dict[UUID, _Joined] = {}
        rows: list[tuple[object, ...]] = []
        joined_by: dict[tuple[UUID, int], UUID] = {}
        for decided in fresh:
            item = decided.arrival
            timeline = timelines.get(item.camera_id)
            if timeline is None:
                known = spans.get(item.camera_id, {}).values()
                timeline = timelines[item.camera_id] = Timeline(known, self._limits)
            seen: set[UUID] = set()
            for frame in decided.frames:
                if not frame.kept:
                    continue
                event_id, history = timeline.place(frame.to_assembly(item.message.media.id))
                event = joined.setdefault(event_id, _Joined(item.camera_id, item.partition, history))
                event.add(_addition(frame, event_id not in seen), item.traceparent)
                seen.add(event_id)
                joined_by[item.media_id, frame.frame.index] = event_id
                place, captured_at = (item.media_id, event_id, item.camera_id), moment(frame.frame.at)
                rows.extend((row[0], *place, *row[1:5], captured_at, row[5]) for row in frame.kept)
        return joined, rows, joined_by

    async def _grow(
        self,
        connection: "asyncpg.Connection",
        joined: dict[UUID, _Joined],
        cameras: dict[str, CameraRow],
        now: datetime,
    ) -> list[QueuedEvent]:
        """The events, opened or loaded, with what joined them. Before the new detections are written."""
        old = [id for id, event in joined.items() if event.history is None]
        events = await load_queued(connection, old) if old else {}
        known = await load_detection_ids(connection, old) if old else {}
        for id, event in joined.items():
            if event.history is not None:
                at = event.additions[0].at
                events[id] = QueuedEvent(StoredEvent(id, event.camera_id, at, at, event.history, now))
            zone = cameras[event.camera_id].time_zone or self._time_zone
            added = AddedFrames(tuple(event.additions), zone, event.partition, event.traceparent)
            events[id].add_frames(added, known.get(id, ()), now)
        return list(events.values())


def _addition(frame: DecidedFrame, first: bool) -> AddedFrame:
    ids, labels = tuple(row[0] for row in frame.kept), frozenset(row[2] for row in frame.kept)
    return AddedFrame(frame.frame.at, ids, labels, frame.urgent, first)


def _media_row(item: DecidedMedia, camera: CameraRow, now: datetime) -> tuple[object, ...]:
    arrival, policy = item.arrival, item.policy
    return (
        arrival.media_id,
        arrival.camera_id,
        *arrival.row,
        item.kept_count,
        *arrival.file_row,
        now,
        camera.revision if policy else None,
        policy.digest if policy else None,
    )


def _frame_row(media_id: UUID, decided: DecidedFrame) -> tuple[object, ...]:
    frame = decided.frame
    return (
        media_id,
        frame.index,
        moment(frame.at),
        frame.width,
        frame.height,
        frame.motion,
        decided.packed(),
    )


def _kept(
    item: DecidedMedia, joined: Mapping[tuple[UUID, int], UUID], camera: CameraRow, now: datetime
) -> bytes:
    """The record of store.kept.v1. `joined`: the event that each frame joined."""
    message, media_id = item.arrival.message, item.arrival.media_id
    return MediaKept(
        media=message.media,
        detector=message.detector,
        detected_at=message.detected_at,
        frames=[frame.message(joined.get((media_id, frame.frame.index))) for frame in item.frames],
        camera_revision=camera.revision if item.policy else 0,
        policy_digest=item.policy.digest if item.policy else "",
        recorded_at=stamp(now),
    ).SerializeToString()


async def _write_frames_and_kept(
    connection: "asyncpg.Connection",
    fresh: Sequence[DecidedMedia],
    joined: Mapping[tuple[UUID, int], UUID],
    cameras: Mapping[str, CameraRow],
    now: datetime,
) -> None:
    """The frames that the store has filtered, and what the relay tells of each media."""
    if not fresh:
        return
    rows = [_frame_row(item.arrival.media_id, one) for item in fresh if item.policy for one in item.frames]
    ids = [item.arrival.camera_id for item in fresh]
    bodies = [_kept(item, joined, cameras[id], now) for id, item in zip(ids, fresh, strict=True)]
    columns = zip(*rows, strict=True) if rows else [()] * FRAME_COLUMNS
    await connection.execute(_WRITE_FRAMES_AND_KEPT, *map(list, columns), ids, bodies)


async def _first_of_each(connection: "asyncpg.Connection", items: Sequence[Arrival]) -> list[Arrival]:
    """The first record of each media not known (nor deleted) yet, in log order."""
    first: dict[UUID, Arrival] = {}
    for item in items:
        first.setdefault(item.media_id, item)
    for row in await connection.fetch(_KNOWN, list(first)):
        first.pop(row["id"], None)
    return list(first.values())
