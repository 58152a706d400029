"""What renditions are made of: read for a request, and handed out with the lease of its job."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, ScalarSelect, func, select

from lares.ingest.v1.media_pb2 import MEDIA_TYPE_MP4
from lares.store.internal.v1.job_service_pb2 import RenderFrame, RenderInput, RenderSource
from lares.store.v1.rendition_pb2 import RenditionKind
from mesh.media_types import is_clip
from mesh.problems import Conflict, NotFound
from store_svc.database.statement import Connection, Record, Statement, equals, one_of, parameter
from store_svc.database.tables import TIME, detections, events, frames, media, renditions
from store_svc.domain.job import Job
from store_svc.domain.render_input import MAX_PREVIEW_FRAMES, evenly
from store_svc.messages import detection_message, media_message
from store_svc.times import stamp

log = structlog.get_logger(__name__)
T = TypeVar("T")

_FRAMES, _PLAYABLE = RenditionKind.RENDITION_KIND_FRAMES, RenditionKind.RENDITION_KIND_PLAYABLE
_EVENT_CLIP = RenditionKind.RENDITION_KIND_EVENT_CLIP

_MEDIA = Statement(select(media).where(one_of(media.c.id, "ids")).order_by(media.c.captured_at, media.c.id))
_FRAMES_OF_MEDIA = Statement(
    select(frames.c.index, frames.c.captured_at)
    .where(equals(frames.c.media_id, "media_id"))
    .order_by(frames.c.index)
)
_EVENT = Statement(
    select(events.c.camera_id, events.c.started_at, events.c.ended_at).where(equals(events.c.id, "event_id"))
)
_DETECTIONS = Statement(
    select(*[column for column in detections.columns if column is not detections.c.rank])
    .where(equals(detections.c.event_id, "event_id"))
    .order_by(
        detections.c.captured_at,
        detections.c.media_id,
        detections.c.frame,
        detections.c.score.desc(),
        detections.c.id,
    )
)
_INPUTS = Statement(select(renditions.c.id, renditions.c.input).where(one_of(renditions.c.id, "ids")))


def _clips_within() -> Statement:
    """A clip reaches from its first to its last frame, and its media was captured with the first one or, if
    the clip is longer than its header says, up to its length later. So the bounds of the media's time only
    tell the index scan where to look."""

    def of_frames(value: ColumnElement[T]) -> ScalarSelect[T]:
        return select(value).where(frames.c.media_id == media.c.id).scalar_subquery()

    first, last = of_frames(func.min(frames.c.captured_at)), of_frames(func.max(frames.c.captured_at))
    return Statement(
        select(
            media, of_frames(func.min(frames.c.index)).label("first_index"), first.label("first_captured_at")
        )
        .where(
            equals(media.c.camera_id, "camera_id"),
            media.c.type >= MEDIA_TYPE_MP4,
            media.c.captured_at >= parameter("captured_after", TIME),
            media.c.captured_at <= parameter("captured_before", TIME),
            first <= parameter("end", TIME),
            last >= parameter("start", TIME),
        )
        .order_by(first, media.c.id)
    )


_CLIPS_WITHIN = _clips_within()


class RenderInputs:
    def __init__(self, pre_roll: timedelta, post_roll: timedelta, longest_clip: timedelta) -> None:
        self._pre_roll = pre_roll
        self._post_roll = post_roll
        self._longest_clip = longest_clip

    async def plan(self, connection: Connection, kind: int, subject_id: str) -> RenderInput:
        """What a rendition of this kind would be made of now. Raises NotFound (MEDIA_NOT_FOUND,
        EVENT_NOT_FOUND), and Conflict (NOTHING_TO_RENDER) if the subject can have none."""
        if kind in (_FRAMES, _PLAYABLE):
            return await self._of_media(connection, kind, subject_id)
        event = await _EVENT.fetch_one(connection, event_id=subject_id)
        if event is None:
            raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=subject_id)
        found = await _DETECTIONS.fetch(connection, event_id=subject_id)
        if kind == _EVENT_CLIP:
            return await self._cut(connection, event, found)
        return await self._preview(connection, event["camera_id"], found)

    async def _of_media(self, connection: Connection, kind: int, media_id: str) -> RenderInput:
        stored = await _MEDIA.fetch_one(connection, ids=[media_id])
        if stored is None:
            raise NotFound("there is no such media", "MEDIA_NOT_FOUND", media_id=media_id)
        if not is_clip(stored["type"]):
            raise _nothing("a photo is shown as it is")
        source = RenderSource(media=media_message(stored).media)
        if kind == _FRAMES:
            rows = await _FRAMES_OF_MEDIA.fetch(connection, media_id=media_id)
            source.frames.extend(
                RenderFrame(index=row["index"], captured_at=stamp(row["captured_at"])) for row in rows
            )
            if not rows:
                raise _nothing("the clip has no frames")
        return RenderInput(kind=kind, camera_id=stored["camera_id"], sources=[source])  # type: ignore[arg-type]

    async def _cut(self, connection: Connection, event: Record, found: Sequence[Record]) -> RenderInput:
        """An event of which no clip shows anything has none, even if there are clips of that time."""
        shown = await _MEDIA.fetch(connection, ids=list({row["media_id"] for row in found}))
        if not any(is_clip(row["type"]) for row in shown):
            raise _nothing("no clip shows this event")
        start, end = event["started_at"] - self._pre_roll, event["ended_at"] + self._post_roll
        clips = await _CLIPS_WITHIN.fetch(
            connection,
            camera_id=event["camera_id"],
            captured_after=start - self._longest_clip,
            captured_before=end + self._longest_clip,
            start=start,
            end=end,
        )
        return RenderInput(
            kind=_EVENT_CLIP,
            camera_id=event["camera_id"],
            sources=[_clip_source(row) for row in clips],
            start=stamp(start),
            end=stamp(end),
        )

    async def _preview(self, connection: Connection, camera_id: str, found: Sequence[Record]) -> RenderInput:
        if not found:
            raise _nothing("the event has no detections")
        by_frame = [list(group) for _, group in groupby(found, itemgetter("media_id", "frame"))]
        shown: dict[UUID, list[RenderFrame]] = {}
        for rows in evenly(by_frame, MAX_PREVIEW_FRAMES):
            frame = RenderFrame(index=rows[0]["frame"], captured_at=stamp(rows[0]["captured_at"]))
            frame.detections.extend(detection_message(row).detection for row in rows)
            shown.setdefault(rows[0]["media_id"], []).append(frame)
        stored = await _MEDIA.fetch(connection, ids=list(shown))
        if not stored:
            raise _nothing("the event's media are gone")
        return RenderInput(
            kind=RenditionKind.RENDITION_KIND_EVENT_PREVIEW,
            camera_id=camera_id,
            sources=[RenderSource(media=media_message(row).media, frames=shown[row["id"]]) for row in stored],
        )

    async def read(self, connection: Connection, jobs: Sequence[Job]) -> Mapping[UUID, RenderInput]:
        """The inputs of `render` jobs, by rendition. Leaves out, and logs, a rendition that is unknown."""
        rows = await _INPUTS.fetch(connection, ids=[job.subject_id for job in jobs])
        inputs = {row["id"]: RenderInput.FromString(row["input"]) for row in rows}
        for job in jobs:
            if job.subject_id not in inputs:
                log.error("no such rendition, job skipped", rendition_id=str(job.subject_id))
        return inputs


def _clip_source(clip: Record) -> RenderSource:
    first = RenderFrame(index=clip["first_index"], captured_at=stamp(clip["first_captured_at"]))
    return RenderSource(media=media_message(clip).media, frames=[first])


def _nothing(why: str) -> Conflict:
    return Conflict(f"there is nothing to show: {why}", "NOTHING_TO_RENDER")
