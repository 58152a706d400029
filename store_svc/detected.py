"""Records MediaDetected: media, detections, and the events that come of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.delivery import Delivery
from mesh.topics import DETECTED
from store_svc.assembly import Frame, Limits, Timeline, windows
from store_svc.event import Addition, Growth, StoredEvent
from store_svc.evidence import History
from store_svc.recording import Effect, write_files
from store_svc.records import Arrival, DetectionRow, arrival
from store_svc.repository import load_detection_ids, load_events, load_spans, write_events
from store_svc.stubs import CameraRow, lock_or_make_cameras
from store_svc.tables import detections, media

_KNOWN = """
SELECT id FROM media WHERE id = ANY($1::uuid[])
UNION ALL SELECT id FROM tombstones WHERE kind = 'media' AND id = ANY($1::uuid[])
"""


@dataclass(slots=True)
class _Joined:
    """What one batch adds to one event; `history` where it opens it."""

    camera_id: str
    partition: int
    history: History | None = None
    additions: list[Addition] = field(default_factory=list)


class DetectedRecorder:
    """The first MediaDetected of a media wins whole; later ones only make their file known."""

    topic = DETECTED

    def __init__(self, limits: Limits, time_zone: str, clock: Callable[[], datetime]) -> None:
        """`time_zone`: IANA name, for cameras that have none."""
        self._limits = limits
        self._time_zone = time_zone
        self._clock = clock

    def read(self, delivery: Delivery[MediaDetected]) -> Arrival:
        return arrival(delivery.message, delivery.partition)

    async def write(self, connection: "asyncpg.Connection", items: Sequence[Arrival]) -> Effect:
        now = self._clock()
        cameras, stubs = await lock_or_make_cameras(connection, items, now)
        items = [item for item in items if not cameras[item.camera_id].deleted]
        fresh = await _first_of_each(connection, items)
        joined, rows = await self._assemble(connection, fresh)
        await connection.copy_records_to_table(
            "media",
            records=[(item.media_id, item.camera_id, *item.row, now) for item in fresh],
            columns=media.columns.keys(),
        )
        await write_files(connection, (item.file for item in items))
        changed = await self._grow(connection, joined, cameras, now)
        await connection.copy_records_to_table("detections", records=rows, columns=detections.columns.keys())
        opened = [event for event in changed if event.revision == 1]
        grown = [event for event in changed if event.revision > 1]
        names = {id: camera.display_name for id, camera in cameras.items()}
        await write_events(connection, opened, grown, names, now)
        return Effect(outbox=bool(changed or stubs), due=any(event.due_at for event in changed))

    async def _assemble(
        self, connection: "asyncpg.Connection", arrivals: Sequence[Arrival]
    ) -> tuple[dict[UUID, _Joined], list[tuple[object, ...]]]:
        """Places every frame; what each event gains, and the rows of the detections."""
        frames = ((item.camera_id, item.at) for item in arrivals if item.found)
        spans = await load_spans(connection, windows(frames, self._limits))
        timelines: dict[str, Timeline] = {}
        joined: dict[UUID, _Joined] = {}
        rows: list[tuple[object, ...]] = []
        for item in arrivals:
            timeline = timelines.get(item.camera_id)
            if timeline is None:
                known = spans.get(item.camera_id, {}).values()
                timeline = timelines[item.camera_id] = Timeline(known, self._limits)
            seen: set[UUID] = set()
            for frame, found in item.found:
                event_id, history = timeline.place(frame)
                event = joined.setdefault(event_id, _Joined(item.camera_id, item.partition, history))
                event.additions.append(_addition(frame, found, item.urgent, event_id not in seen))
                seen.add(event_id)
                place = (item.media_id, event_id, item.camera_id)
                rows.extend((row[0], *place, *row[1:], item.captured_at) for row in found)
        return joined, rows

    async def _grow(
        self,
        connection: "asyncpg.Connection",
        joined: dict[UUID, _Joined],
        cameras: dict[str, CameraRow],
        now: datetime,
    ) -> list[StoredEvent]:
        """The events, opened or loaded, with what joined them. Before the new detections are written."""
        old = [id for id, event in joined.items() if event.history is None]
        events = await load_events(connection, old) if old else {}
        known = await load_detection_ids(connection, old) if old else {}
        for id, event in joined.items():
            if event.history is not None:
                at = event.additions[0].at
                events[id] = StoredEvent(id, event.camera_id, at, at, event.history, now)
            zone = cameras[event.camera_id].time_zone or self._time_zone
            growth = Growth(tuple(event.additions), zone, event.partition)
            events[id].grow(growth, known.get(id, ()), now)
        return list(events.values())


def _addition(frame: Frame, found: Sequence[DetectionRow], urgent: bool, first: bool) -> Addition:
    return Addition(
        frame.at, tuple(row[0] for row in found), frozenset(row[2] for row in found), urgent, first
    )


async def _first_of_each(connection: "asyncpg.Connection", items: Sequence[Arrival]) -> list[Arrival]:
    """The first record of each media not known (nor deleted) yet, in log order."""
    first: dict[UUID, Arrival] = {}
    for item in items:
        first.setdefault(item.media_id, item)
    for row in await connection.fetch(_KNOWN, list(first)):
        first.pop(row["id"], None)
    return list(first.values())
