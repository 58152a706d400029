"""FakeStore: what a store holds, in plain lists, and a record of the calls to it.

Its services are in fake_services.py; tests/contract/test_store_services.py holds them and the real store to
the same responses. Not modelled, but scripted by tests: which events are due, previews, suggestions, warnings
and the watch policy, and the statuses of the other services."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from lares.detect.v1 import detect_service_pb2, detection_pb2
from lares.ingest.v1 import ingest_service_pb2, media_pb2
from lares.reason.v1 import assessment_pb2, evidence_pb2, reason_service_pb2
from lares.store.v1 import (
    camera_pb2,
    camera_service_pb2,
    detection_service_pb2,
    event_pb2,
    event_service_pb2,
    events_pb2,
    media_service_pb2,
    rendition_pb2,
)
from mesh.boxes import bounding_box
from mesh.permissions import Permission
from mesh.problems import Conflict, Invalid
from mesh.security import Caller, caller
from tests.unit.gateway.fake_house import FakeHouse
from tests.unit.gateway.fake_pages import NOON as NOON
from tests.unit.gateway.fake_pages import uuid as uuid

SEVERITY_BOUNDS = (30, 60, 85, 101)


@dataclass
class FakeStore:
    """Lists are in no particular order unless noted: the services sort."""

    cameras: dict[str, camera_pb2.Camera] = field(default_factory=dict)
    deleted_cameras: set[str] = field(default_factory=set)
    events: list[event_pb2.Event] = field(default_factory=list)
    media: list[media_service_pb2.StoredMedia] = field(default_factory=list)
    detections: list[detection_service_pb2.StoredDetection] = field(default_factory=list)
    rejections: list[media_service_pb2.Rejection] = field(default_factory=list)
    changes: list[events_pb2.EventChanged] = field(default_factory=list)  # from sequence 1
    expired_changes: int = 0  # so many of the first are no longer kept
    secrets: dict[str, str] = field(default_factory=dict)  # API key -> its id
    permissions: dict[str, frozenset[Permission]] = field(default_factory=dict)  # by key id; all by default
    house: FakeHouse = field(default_factory=FakeHouse)
    assessments: dict[str, list[assessment_pb2.Assessment]] = field(default_factory=dict)  # newest first
    raw_answers: dict[str, str] = field(default_factory=dict)  # by assessment
    failures: dict[str, event_service_pb2.EventFailure] = field(default_factory=dict)  # by event
    evidence: dict[str, evidence_pb2.Evidence] = field(default_factory=dict)  # by event, where it has any
    feedback: dict[str, event_service_pb2.Feedback] = field(default_factory=dict)  # by assessment
    # By kind and subject; tests make those that wait.
    renditions: dict[tuple[int, str], rendition_pb2.Rendition] = field(default_factory=dict)
    requested_by: dict[str, str] = field(default_factory=dict)  # by rendition, the key's id
    # Scripted responses.
    frames: dict[str, list[media_service_pb2.StoredFrame]] = field(default_factory=dict)  # of clips
    status: event_service_pb2.GetStoreStatusResponse = field(
        default_factory=lambda: event_service_pb2.GetStoreStatusResponse(eta=Duration())
    )
    watch_policy: camera_service_pb2.GetWatchPolicyResponse = field(
        default_factory=camera_service_pb2.GetWatchPolicyResponse
    )
    preview: camera_service_pb2.PreviewPolicyResponse = field(
        default_factory=camera_service_pb2.PreviewPolicyResponse
    )
    suggestions: camera_service_pb2.SuggestZonesResponse = field(
        default_factory=camera_service_pb2.SuggestZonesResponse
    )
    ingest: ingest_service_pb2.GetIngestStatusResponse = field(
        default_factory=ingest_service_pb2.GetIngestStatusResponse
    )
    detect: detect_service_pb2.GetDetectStatusResponse = field(
        default_factory=detect_service_pb2.GetDetectStatusResponse
    )
    gpus: detect_service_pb2.ListGpusResponse = field(default_factory=detect_service_pb2.ListGpusResponse)
    reason: reason_service_pb2.GetReasonStatusResponse = field(
        default_factory=reason_service_pb2.GetReasonStatusResponse
    )
    failing: dict[str, Exception] = field(default_factory=dict)  # method -> what it raises
    answering: asyncio.Event = field(default_factory=asyncio.Event)  # status calls wait until it is set
    waiting: dict[str, asyncio.Event] = field(
        default_factory=dict
    )  # method -> what its status call waits for
    # The record of the calls, in order.
    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answering.set()

    def record(self, method: str, request: Message) -> None:
        self.calls[method] += 1
        self.order.append(method)
        self.requests.append(request)
        self.callers.append(caller.get())
        if method in self.failing:
            raise self.failing[method]

    async def until_answering(self, method: str) -> None:
        await self.answering.wait()
        if method in self.waiting:
            await self.waiting[method].wait()

    def clear_calls(self) -> None:
        self.calls.clear()
        self.order.clear()
        self.requests.clear()
        self.callers.clear()

    def add_camera(self, id: str, **settings: Any) -> camera_pb2.Camera:
        given: dict[str, Any] = {"display_name": id.title(), "time_zone": "", "enabled": True}
        camera = self.cameras[id] = camera_pb2.Camera(id=id, **(given | settings))
        camera.created_at.FromDatetime(NOON - timedelta(days=1))
        camera.updated_at.FromDatetime(NOON - timedelta(days=1))
        return camera

    def add_event(
        self,
        index: int,
        *,
        camera: str = "front-door",
        score: int | None = None,
        found: int = 2,
        photos: int = 1,
    ) -> event_pb2.Event:
        """Adds an event with its photos, each with `found` detections, and its camera if there is none.
        Events with a larger index are newer."""
        name = (self.cameras.get(camera) or self.add_camera(camera)).display_name
        event = event_pb2.Event(
            id=uuid("event", index),
            camera_id=camera,
            camera_name=name,
            status=event_pb2.EVENT_STATUS_PENDING,
            revision=1,
            sequence=index + 1,
            labels=["person"],
            detection_count=found * photos,
            media_count=photos,
        )
        event.started_at.FromDatetime(NOON + timedelta(seconds=index))
        event.ended_at.FromDatetime(NOON + timedelta(seconds=index + 1))
        if score is not None:
            self.assess(event, score)
        for photo in range(photos):
            self.add_media(index * 100 + photo, camera=camera, found=found, event_id=event.id)
        self.events.append(event)
        return event

    def add_media(
        self, index: int, *, camera: str = "front-door", found: int = 0, event_id: str = "", sha256: str = ""
    ) -> media_service_pb2.StoredMedia:
        """Adds a photo with `found` detections, the first of them the best. Those with a larger index are
        newer."""
        stored = media_service_pb2.StoredMedia(detector="fake@1", detection_count=found)
        media = stored.media
        media.id, media.camera_id, media.camera_name = uuid("media", index), camera, camera.title()
        media.sha256, media.size_bytes = sha256 or f"{index:064x}", 1000
        media.type, media.width, media.height = media_pb2.MEDIA_TYPE_JPEG, 640, 480
        media.captured_at.FromDatetime(NOON + timedelta(seconds=index))
        media.captured_at_source = media_pb2.CAPTURED_AT_SOURCE_EXIF
        media.ingested_at.FromDatetime(NOON + timedelta(seconds=index, milliseconds=100))
        stored.detected_at.FromDatetime(NOON + timedelta(seconds=index, milliseconds=250))
        for rank in range(found):
            detection = detection_pb2.Detection(
                id=uuid("detection", index, rank),
                label="person",
                score=0.9 - rank / 100,
                bounding_box=bounding_box([0.1, 0.2, 0.3, 0.4]),
            )
            self.detections.append(
                detection_service_pb2.StoredDetection(
                    detection=detection,
                    media_id=media.id,
                    event_id=event_id,
                    camera_id=camera,
                    captured_at=media.captured_at,
                )
            )
        self.media.append(stored)
        return stored

    def add_clip(
        self, index: int, *, camera: str = "front-door", frames: int = 3, found: int = 0, event_id: str = ""
    ) -> media_service_pb2.StoredMedia:
        """Adds a clip with a frame every two seconds. Its `found` detections are in the last one, which
        is its poster."""
        stored = self.add_media(index, camera=camera, found=found, event_id=event_id)
        stored.media.type = media_pb2.MEDIA_TYPE_MP4
        stored.media.clip.duration.FromSeconds(2 * frames)
        stored.media.clip.video_codec, stored.media.clip.frame_rate = "h264", 12.5
        stored.media.clip.has_audio = True
        stored.frame_choice.version, stored.frame_choice.max_frames = "frames/v1", 300
        start = stored.media.captured_at.ToDatetime(UTC)
        for place in range(frames):
            frame = media_service_pb2.StoredFrame(
                index=2000 * place, width=640, height=480, motion_significance=place / 4
            )
            frame.captured_at.FromDatetime(start + timedelta(seconds=2 * place))
            self.frames.setdefault(stored.media.id, []).append(frame)
        stored.poster_frame = 2000 * (frames - 1)
        for detected in self.detections[len(self.detections) - found :]:
            detected.detection.frame = stored.poster_frame
            detected.captured_at.CopyFrom(frame.captured_at)
        return stored

    def frames_of(self, media_id: str) -> list[media_service_pb2.StoredFrame]:
        """A photo is its only frame."""
        found = self.frames.get(media_id, [])
        for stored in self.media:
            if stored.media.id == media_id and not found:
                media = stored.media
                found = [
                    media_service_pb2.StoredFrame(
                        captured_at=media.captured_at, width=media.width, height=media.height
                    )
                ]
        return found

    def add_change(self, event: event_pb2.Event, *, deleted: bool = False) -> events_pb2.EventChanged:
        """Adds the next change to the feed, with the event as it is now."""
        change = events_pb2.EventChanged(sequence=len(self.changes) + 1, deleted=deleted)
        if deleted:
            change.event.id, change.event.camera_id = event.id, event.camera_id
        else:
            event.sequence = change.sequence
            change.event.CopyFrom(event)
        self.changes.append(change)
        return change

    def assess(self, event: event_pb2.Event, score: int, *, model: str = "") -> assessment_pb2.Assessment:
        """Adds an assessment by the rules, or by a language model, which becomes the event's current one."""
        history = self.assessments.setdefault(event.id, [])
        rank = next(rank for rank, bound in enumerate(SEVERITY_BOUNDS) if score < bound)
        assessment = assessment_pb2.Assessment(
            id=uuid("assessment", event.id, len(history)),
            event_id=event.id,
            score=score,
            severity=assessment_pb2.SEVERITY_LOW + rank,  # type: ignore[arg-type]
            summary="A person came to the door.",
            reasoner="llama.cpp" if model else "rules/v1",
            model=model,
        )
        assessment.factors.add(
            factor="class", points=score, text="a person", detection_ids=[uuid("detection", 0, 0)]
        )
        assessment.assessed_at.FromDatetime(NOON)
        history.insert(0, assessment)
        event.status = event_pb2.EVENT_STATUS_ASSESSED
        event.assessment.CopyFrom(assessment)
        return assessment

    async def list_changes(self, after: int, limit: int) -> tuple[list[events_pb2.EventChanged], int]:
        """What `mesh.feed.Feed` reads."""
        head = len(self.changes)
        if after > head:
            raise Invalid("this cursor is beyond the end of the feed", "CURSOR_BEYOND_HEAD", head=str(head))
        if 0 < after < self.expired_changes:
            oldest = str(self.expired_changes + 1)
            raise Conflict("this cursor is older than what is kept", "CURSOR_EXPIRED", oldest=oldest)
        start = max(after, self.expired_changes)
        return self.changes[start : start + limit], head
