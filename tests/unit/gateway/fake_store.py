"""FakeStore: the store's contracts (and three status calls) over plain dictionaries, and a count of calls."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

from google.protobuf.message import Message

from lares.detect.v1 import detect_service_pb2, detection_pb2
from lares.detect.v1 import detect_service_pb2_grpc as detect_rpc
from lares.ingest.v1 import ingest_service_pb2, media_pb2
from lares.ingest.v1 import ingest_service_pb2_grpc as ingest_rpc
from lares.reason.v1 import assessment_pb2, reason_service_pb2
from lares.reason.v1 import reason_service_pb2_grpc as reason_rpc
from lares.store.internal.v1 import key_check_service_pb2
from lares.store.internal.v1 import key_check_service_pb2_grpc as key_checks_rpc
from lares.store.v1 import (
    camera_pb2,
    camera_service_pb2,
    detection_service_pb2,
    event_pb2,
    event_service_pb2,
    events_pb2,
    media_service_pb2,
)
from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import detection_service_pb2_grpc as detections_rpc
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import media_service_pb2_grpc as media_rpc
from mesh.boxes import bounding_box
from mesh.problems import Conflict, NotFound, Unauthenticated
from mesh.rpc import GrpcServer
from mesh.security import Caller, caller, digest

T = TypeVar("T")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def uuid(*parts: object) -> str:
    return str(uuid5(NAMESPACE_URL, "/".join(map(str, parts))))


@dataclass
class FakeStore:
    cameras: dict[str, camera_pb2.Camera] = field(default_factory=dict)
    events: list[event_pb2.Event] = field(default_factory=list)  # newest first
    media: list[media_service_pb2.StoredMedia] = field(default_factory=list)  # newest first
    detections: list[detection_service_pb2.StoredDetection] = field(default_factory=list)
    event_media: dict[str, list[str]] = field(default_factory=dict)
    rejections: list[media_service_pb2.Rejection] = field(default_factory=list)
    changes: list[events_pb2.EventChanged] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)  # plain text -> key id
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
    assessments: dict[str, list[assessment_pb2.Assessment]] = field(default_factory=dict)  # newest first
    raw_answers: dict[str, str] = field(default_factory=dict)  # by assessment
    failures: dict[str, event_service_pb2.EventFailure] = field(default_factory=dict)
    status: event_service_pb2.GetStoreStatusResponse = field(
        default_factory=event_service_pb2.GetStoreStatusResponse
    )
    watch_policy: camera_service_pb2.GetWatchPolicyResponse = field(
        default_factory=camera_service_pb2.GetWatchPolicyResponse
    )
    preview: camera_service_pb2.PreviewPolicyResponse = field(
        default_factory=camera_service_pb2.PreviewPolicyResponse
    )
    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)  # method -> what it raises
    answering: asyncio.Event = field(default_factory=asyncio.Event)  # status calls wait until it is set
    reason_answering: asyncio.Event = field(default_factory=asyncio.Event)  # and that of reason_svc for this

    def __post_init__(self) -> None:
        self.answering.set()
        self.reason_answering.set()

    def seen(self, method: str, request: Message) -> None:
        self.calls[method] += 1
        self.order.append(method)
        self.requests.append(request)
        self.callers.append(caller.get())
        if method in self.failing:
            raise self.failing[method]

    def forget(self) -> None:
        """Clears the record of calls, not what is stored."""
        self.calls.clear()
        self.order.clear()
        self.requests.clear()
        self.callers.clear()

    def add_to(self, server: GrpcServer) -> None:
        servicers: list[tuple[Callable[..., None], _Servicer, str]] = [
            (cameras_rpc.add_CameraServiceServicer_to_server, _Cameras(self), "store.v1.CameraService"),
            (events_rpc.add_EventServiceServicer_to_server, _Events(self), "store.v1.EventService"),  # type: ignore[abstract]
            (media_rpc.add_MediaServiceServicer_to_server, _Media(self), "store.v1.MediaService"),
            (
                detections_rpc.add_DetectionServiceServicer_to_server,
                _Detections(self),
                "store.v1.DetectionService",
            ),
            (
                key_checks_rpc.add_KeyCheckServiceServicer_to_server,
                _KeyChecks(self),
                "store.internal.v1.KeyCheckService",
            ),
            (ingest_rpc.add_IngestServiceServicer_to_server, _Ingest(self), "ingest.v1.IngestService"),  # type: ignore[abstract]
            (detect_rpc.add_DetectServiceServicer_to_server, _Detect(self), "detect.v1.DetectService"),  # type: ignore[abstract]
            (reason_rpc.add_ReasonServiceServicer_to_server, _Reason(self), "reason.v1.ReasonService"),  # type: ignore[abstract]
        ]
        for register, servicer, name in servicers:
            server.add(register, servicer, f"lares.{name}")

    def add_event(
        self,
        index: int,
        *,
        camera: str = "front-door",
        score: int | None = None,
        found: int = 2,
        photos: int = 1,
    ) -> event_pb2.Event:
        """One event with its photos and detections; the later added is the newer."""
        self.cameras.setdefault(
            camera, camera_pb2.Camera(id=camera, display_name=camera.title(), enabled=True)
        )
        event = event_pb2.Event(
            id=uuid("event", index),
            camera_id=camera,
            camera_name=self.cameras[camera].display_name,
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
            judge(event, score)
        for photo in range(photos):
            media = self.add_media(index * 100 + photo, camera=camera, found=found, event_id=event.id)
            self.event_media.setdefault(event.id, []).append(media.media.id)
        self.events.insert(0, event)
        return event

    def add_media(
        self, index: int, *, camera: str = "front-door", found: int = 0, event_id: str = "", sha256: str = ""
    ) -> media_service_pb2.StoredMedia:
        stored = media_service_pb2.StoredMedia(detector="fake@1", detection_count=found)
        stored.media.id = uuid("media", index)
        stored.media.camera_id = camera
        stored.media.sha256 = sha256 or f"{index:064x}"
        stored.media.type = media_pb2.MEDIA_TYPE_JPEG
        stored.media.width, stored.media.height = 640, 480
        stored.media.captured_at.FromDatetime(NOON + timedelta(seconds=index))
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
                    media_id=stored.media.id,
                    event_id=event_id,
                    camera_id=camera,
                    captured_at=stored.media.captured_at,
                )
            )
        self.media.insert(0, stored)
        return stored

    def add_change(self, event: event_pb2.Event, *, deleted: bool = False) -> events_pb2.EventChanged:
        """The next entry of the feed."""
        change = events_pb2.EventChanged(sequence=len(self.changes) + 1, deleted=deleted)
        if deleted:
            change.event.id, change.event.camera_id = event.id, event.camera_id
        else:
            change.event.CopyFrom(event)
            change.event.sequence = change.sequence
        self.changes.append(change)
        return change


def judge(event: event_pb2.Event, score: int) -> None:
    event.status = event_pb2.EVENT_STATUS_ASSESSED
    event.assessment.score = score
    bounds = (30, 60, 85, 101)
    event.assessment.severity = next(  # type: ignore[assignment]
        rank + assessment_pb2.SEVERITY_LOW for rank, bound in enumerate(bounds) if score < bound
    )
    event.assessment.summary = "A person came to the door."
    event.assessment.reasoner = "rules/v1"
    event.assessment.factors.add(
        factor="class", points=score, text="a person", detection_ids=[uuid("detection", 0, 0)]
    )
    event.assessment.assessed_at.FromDatetime(NOON)


def page(items: Sequence[T], size: int, token: str) -> tuple[list[T], list[str], str]:
    """Tokens are positions."""
    start = int(token) if token else 0
    end = start + (size or 50)
    chosen = list(items[start:end])
    tokens = [str(start + index + 1) for index in range(len(chosen))]
    return chosen, tokens, tokens[-1] if end < len(items) and tokens else ""


class _Servicer:
    def __init__(self, store: FakeStore) -> None:
        self.store = store


class _Cameras(_Servicer, cameras_rpc.CameraServiceServicer):
    async def CreateCamera(self, request: Any, context: Any) -> Any:
        self.store.seen("CreateCamera", request)
        if request.camera.id in self.store.cameras:
            raise Conflict("there is such a camera already", "CAMERA_EXISTS", camera_id=request.camera.id)
        self.store.cameras[request.camera.id] = request.camera
        return camera_service_pb2.CreateCameraResponse(camera=request.camera)

    async def GetCamera(self, request: Any, context: Any) -> Any:
        self.store.seen("GetCamera", request)
        if request.camera_id not in self.store.cameras:
            raise NotFound("there is no such camera", "CAMERA_NOT_FOUND")
        return camera_service_pb2.GetCameraResponse(camera=self.store.cameras[request.camera_id])

    async def BatchGetCameras(self, request: Any, context: Any) -> Any:
        self.store.seen("BatchGetCameras", request)
        cameras = [self.store.cameras[id] for id in request.camera_ids if id in self.store.cameras]
        return camera_service_pb2.BatchGetCamerasResponse(cameras=cameras)

    async def ListCameras(self, request: Any, context: Any) -> Any:
        self.store.seen("ListCameras", request)
        return camera_service_pb2.ListCamerasResponse(cameras=self.store.cameras.values())

    async def UpdateCamera(self, request: Any, context: Any) -> Any:
        self.store.seen("UpdateCamera", request)
        known = self.store.cameras[request.camera.id]
        request.update_mask.MergeMessage(request.camera, known, True, True)
        return camera_service_pb2.UpdateCameraResponse(camera=known)

    async def GetWatchPolicy(self, request: Any, context: Any) -> Any:
        self.store.seen("GetWatchPolicy", request)
        return self.store.watch_policy

    async def PreviewPolicy(self, request: Any, context: Any) -> Any:
        self.store.seen("PreviewPolicy", request)
        return self.store.preview

    async def DeleteCamera(self, request: Any, context: Any) -> Any:
        self.store.seen("DeleteCamera", request)
        if self.store.cameras.pop(request.camera_id, None) is None:
            raise NotFound("there is no such camera", "CAMERA_NOT_FOUND")
        return camera_service_pb2.DeleteCameraResponse()


class _Events(_Servicer, events_rpc.EventServiceServicer):
    async def GetEvent(self, request: Any, context: Any) -> Any:
        self.store.seen("GetEvent", request)
        return event_service_pb2.GetEventResponse(event=self._known(request.event_id))

    def _known(self, id: str) -> event_pb2.Event:
        for event in self.store.events:
            if event.id == id:
                return event
        raise NotFound("there is no such event", "EVENT_NOT_FOUND")

    async def ListEvents(self, request: Any, context: Any) -> Any:
        self.store.seen("ListEvents", request)
        wanted = request.filter.camera_ids
        events = [event for event in self.store.events if not wanted or event.camera_id in wanted]
        chosen, tokens, after = page(events, request.page_size, request.page_token)
        return event_service_pb2.ListEventsResponse(events=chosen, page_tokens=tokens, next_page_token=after)

    async def ReassessEvent(self, request: Any, context: Any) -> Any:
        self.store.seen("ReassessEvent", request)
        return event_service_pb2.ReassessEventResponse(
            request_id=request.request_id or uuid("request"), event=self._known(request.event_id)
        )

    async def ListAssessments(self, request: Any, context: Any) -> Any:
        self.store.seen("ListAssessments", request)
        history = self.store.assessments.get(request.event_id, [])
        chosen, tokens, after = page(history, request.page_size or 20, request.page_token)
        return event_service_pb2.ListAssessmentsResponse(
            assessments=chosen, page_tokens=tokens, next_page_token=after
        )

    async def GetRawAnswer(self, request: Any, context: Any) -> Any:
        self.store.seen("GetRawAnswer", request)
        if request.assessment_id not in self.store.raw_answers:
            raise NotFound("there is no such assessment", "ASSESSMENT_NOT_FOUND")
        raw_answer = self.store.raw_answers[request.assessment_id]
        return event_service_pb2.GetRawAnswerResponse(raw_answer=raw_answer)

    async def BatchGetFailures(self, request: Any, context: Any) -> Any:
        self.store.seen("BatchGetFailures", request)
        failures = [self.store.failures[id] for id in request.event_ids if id in self.store.failures]
        return event_service_pb2.BatchGetFailuresResponse(failures=failures)

    async def ListChanges(self, request: Any, context: Any) -> Any:
        self.store.seen("ListChanges", request)
        after = [change for change in self.store.changes if change.sequence > request.after]
        return event_service_pb2.ListChangesResponse(
            changes=after[: request.page_size or 200], head=len(self.store.changes)
        )

    async def GetStoreStatus(self, request: Any, context: Any) -> Any:
        self.store.seen("GetStoreStatus", request)
        await self.store.answering.wait()
        return self.store.status


class _Media(_Servicer, media_rpc.MediaServiceServicer):
    def _known(self) -> dict[str, media_service_pb2.StoredMedia]:
        return {stored.media.id: stored for stored in self.store.media}

    async def GetMedia(self, request: Any, context: Any) -> Any:
        self.store.seen("GetMedia", request)
        if request.media_id not in self._known():
            raise NotFound("there is no such media", "MEDIA_NOT_FOUND")
        return media_service_pb2.GetMediaResponse(media=self._known()[request.media_id])

    async def ListMedia(self, request: Any, context: Any) -> Any:
        self.store.seen("ListMedia", request)
        wanted = request.camera_ids
        media = [stored for stored in self.store.media if not wanted or stored.media.camera_id in wanted]
        chosen, tokens, after = page(media, request.page_size, request.page_token)
        return media_service_pb2.ListMediaResponse(media=chosen, page_tokens=tokens, next_page_token=after)

    async def BatchGetMedia(self, request: Any, context: Any) -> Any:
        self.store.seen("BatchGetMedia", request)
        known = self._known()
        media = [known[id] for id in request.media_ids if id in known]
        return media_service_pb2.BatchGetMediaResponse(media=media)

    async def BatchListEventMedia(self, request: Any, context: Any) -> Any:
        self.store.seen("BatchListEventMedia", request)
        known = self._known()
        answer = media_service_pb2.BatchListEventMediaResponse()
        for id in request.event_ids:
            answer.events.add(
                event_id=id, media=[known[media] for media in self.store.event_media.get(id, [])]
            )
        return answer

    async def ListRejections(self, request: Any, context: Any) -> Any:
        self.store.seen("ListRejections", request)
        chosen, tokens, after = page(self.store.rejections, request.page_size, request.page_token)
        return media_service_pb2.ListRejectionsResponse(
            rejections=chosen, page_tokens=tokens, next_page_token=after
        )


class _Detections(_Servicer, detections_rpc.DetectionServiceServicer):
    async def ListDetections(self, request: Any, context: Any) -> Any:
        self.store.seen("ListDetections", request)
        parent = request.WhichOneof("parent")
        found = [
            found for found in self.store.detections if getattr(found, parent) == getattr(request, parent)
        ]
        chosen, tokens, after = page(found, request.page_size, request.page_token)
        return detection_service_pb2.ListDetectionsResponse(
            detections=chosen, page_tokens=tokens, next_page_token=after
        )

    async def BatchListDetections(self, request: Any, context: Any) -> Any:
        self.store.seen("BatchListDetections", request)
        answer = detection_service_pb2.BatchListDetectionsResponse()
        for parent, ids in (("event_id", request.event_ids), ("media_id", request.media_ids)):
            for id in ids:
                found = [found for found in self.store.detections if getattr(found, parent) == id]
                chosen, tokens, after = page(found, request.page_size, "")
                answer.pages.add(parent_id=id, detections=chosen, page_tokens=tokens, next_page_token=after)
        return answer


class _KeyChecks(_Servicer, key_checks_rpc.KeyCheckServiceServicer):
    async def VerifyKey(self, request: Any, context: Any) -> Any:
        self.store.seen("VerifyKey", request)
        for secret, id in self.store.secrets.items():
            if digest(secret) == request.sha256:
                return key_check_service_pb2.VerifyKeyResponse(key_id=id, name="a test")
        raise Unauthenticated("this API key is not known", "UNKNOWN_KEY")


class _Ingest(_Servicer, ingest_rpc.IngestServiceServicer):
    async def GetIngestStatus(self, request: Any, context: Any) -> Any:
        self.store.seen("GetIngestStatus", request)
        return self.store.ingest


class _Detect(_Servicer, detect_rpc.DetectServiceServicer):
    async def GetDetectStatus(self, request: Any, context: Any) -> Any:
        self.store.seen("GetDetectStatus", request)
        await self.store.answering.wait()
        return self.store.detect

    async def ListGpus(self, request: Any, context: Any) -> Any:
        self.store.seen("ListGpus", request)
        await self.store.answering.wait()
        return self.store.gpus


class _Reason(_Servicer, reason_rpc.ReasonServiceServicer):
    async def GetReasonStatus(self, request: Any, context: Any) -> Any:
        self.store.seen("GetReasonStatus", request)
        await self.store.answering.wait()
        await self.store.reason_answering.wait()
        return self.store.reason
