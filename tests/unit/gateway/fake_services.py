"""The services of a FakeStore: they sort, filter and page its lists as the real store does."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from lares.detect.v1 import detect_service_pb2_grpc as detect_rpc
from lares.ingest.v1 import ingest_service_pb2_grpc as ingest_rpc
from lares.reason.v1 import reason_service_pb2_grpc as reason_rpc
from lares.reason.v1.evidence_pb2 import Evidence
from lares.store.internal.v1 import key_check_service_pb2
from lares.store.internal.v1 import key_check_service_pb2_grpc as key_checks_rpc
from lares.store.v1 import (
    camera_pb2,
    camera_service_pb2,
    detection_service_pb2,
    event_pb2,
    event_service_pb2,
    media_service_pb2,
    rendition_service_pb2,
)
from lares.store.v1 import camera_service_pb2_grpc as cameras_rpc
from lares.store.v1 import detection_service_pb2_grpc as detections_rpc
from lares.store.v1 import event_service_pb2_grpc as events_rpc
from lares.store.v1 import house_service_pb2_grpc as house_rpc
from lares.store.v1 import media_service_pb2_grpc as media_rpc
from lares.store.v1 import rendition_service_pb2_grpc as renditions_rpc
from lares.store.v1.rendition_pb2 import (
    RENDITION_KIND_EVENT_PREVIEW,
    RENDITION_KIND_FRAMES,
    RENDITION_KIND_PLAYABLE,
    Rendition,
)
from lares.store.v1.rendition_pb2 import RENDITION_STATE_WAITING as WAITING
from mesh.labels import canonical
from mesh.media_types import is_clip
from mesh.permissions import OF_A_KEY
from mesh.problems import Conflict, Exhausted, Invalid, NotFound, Unauthenticated
from mesh.rpc import GrpcServer
from mesh.security import caller, digest
from mesh.time_zones import is_time_zone
from store_svc.domain.camera_scene import changed_scene
from store_svc.feedback import right_severity
from tests.unit.gateway.fake_house_service import FakeHouseServicer
from tests.unit.gateway.fake_pages import page
from tests.unit.gateway.fake_store import NOON, FakeStore, uuid

T = TypeVar("T")

WATCHED = ("person", "dog", "cat")
SCENE = ("zones", "lines", "masks", "size_filters", "ground")
SETTINGS = ("display_name", "time_zone", "enabled", "thresholds", *SCENE)


def add_services(store: FakeStore, server: GrpcServer) -> None:
    """Serves the store, and the status calls of its siblings."""
    services: list[tuple[Callable[..., None], object, str]] = [
        (cameras_rpc.add_CameraServiceServicer_to_server, _Cameras(store), "store.v1.CameraService"),
        (events_rpc.add_EventServiceServicer_to_server, _Events(store), "store.v1.EventService"),  # type: ignore[abstract]
        (house_rpc.add_HouseServiceServicer_to_server, FakeHouseServicer(store), "store.v1.HouseService"),
        (media_rpc.add_MediaServiceServicer_to_server, _Media(store), "store.v1.MediaService"),
        (
            renditions_rpc.add_RenditionServiceServicer_to_server,
            _Renditions(store),
            "store.v1.RenditionService",
        ),
        (
            detections_rpc.add_DetectionServiceServicer_to_server,
            _Detections(store),
            "store.v1.DetectionService",
        ),
        (
            key_checks_rpc.add_KeyCheckServiceServicer_to_server,
            _KeyChecks(store),
            "store.internal.v1.KeyCheckService",
        ),
        (ingest_rpc.add_IngestServiceServicer_to_server, _Ingest(store), "ingest.v1.IngestService"),  # type: ignore[abstract]
        (detect_rpc.add_DetectServiceServicer_to_server, _Detect(store), "detect.v1.DetectService"),  # type: ignore[abstract]
        (reason_rpc.add_ReasonServiceServicer_to_server, _Reason(store), "reason.v1.ReasonService"),  # type: ignore[abstract]
    ]
    for register, servicer, name in services:
        server.add(register, servicer, f"lares.{name}")


class _Servicer:
    def __init__(self, store: FakeStore) -> None:
        self.store = store


class _Cameras(_Servicer, cameras_rpc.CameraServiceServicer):
    async def CreateCamera(self, request: Any, context: Any) -> Any:
        self.store.record("CreateCamera", request)
        camera = _with_defaults(request.camera)
        _check_settings(camera, SETTINGS)
        if camera.id in self.store.cameras and camera.id not in self.store.deleted_cameras:
            raise Conflict("this camera exists", "CAMERA_EXISTS", camera_id=camera.id)
        camera.created_at.FromDatetime(NOON)
        camera.updated_at.FromDatetime(NOON)
        self.store.cameras[camera.id] = camera
        self.store.deleted_cameras.discard(camera.id)
        return camera_service_pb2.CreateCameraResponse(camera=camera)

    async def GetCamera(self, request: Any, context: Any) -> Any:
        self.store.record("GetCamera", request)
        return camera_service_pb2.GetCameraResponse(camera=self._get(request.camera_id))

    async def BatchGetCameras(self, request: Any, context: Any) -> Any:
        self.store.record("BatchGetCameras", request)
        cameras = [self.store.cameras[id] for id in request.camera_ids if id in self.store.cameras]
        return camera_service_pb2.BatchGetCamerasResponse(cameras=cameras)

    async def ListCameras(self, request: Any, context: Any) -> Any:
        self.store.record("ListCameras", request)
        ids = sorted(self.store.cameras.keys() - self.store.deleted_cameras)
        cameras = [self.store.cameras[id] for id in ids]
        chosen, _, following = page(cameras, request.page_size or 50, request.page_token, "id", "cameras")
        return camera_service_pb2.ListCamerasResponse(cameras=chosen, next_page_token=following)

    async def UpdateCamera(self, request: Any, context: Any) -> Any:
        self.store.record("UpdateCamera", request)
        camera, paths = _with_defaults(request.camera), _changed_paths(request)
        _check_settings(camera, paths)
        known = self._get(camera.id)
        FieldMask(paths=paths).MergeMessage(camera, known, True, True)
        if not known.ground:
            known.ClearField("ground")
        known.updated_at.FromDatetime(NOON)
        return camera_service_pb2.UpdateCameraResponse(camera=known)

    async def GetWatchPolicy(self, request: Any, context: Any) -> Any:
        self.store.record("GetWatchPolicy", request)
        if request.camera_id:
            self._get(request.camera_id)
        return self.store.watch_policy

    async def PreviewPolicy(self, request: Any, context: Any) -> Any:
        self.store.record("PreviewPolicy", request)
        self._get(request.camera.id)
        proposed = any(field.name in SETTINGS for field, _ in request.camera.ListFields())
        if proposed or request.update_mask.paths:
            _check_settings(request.camera, _changed_paths(request))
        return self.store.preview

    async def SuggestZones(self, request: Any, context: Any) -> Any:
        self.store.record("SuggestZones", request)
        self._get(request.camera_id)
        return self.store.suggestions

    async def DeleteCamera(self, request: Any, context: Any) -> Any:
        self.store.record("DeleteCamera", request)
        self._get(request.camera_id).updated_at.FromDatetime(NOON)
        self.store.deleted_cameras.add(request.camera_id)
        return camera_service_pb2.DeleteCameraResponse()

    def _get(self, id: str) -> camera_pb2.Camera:
        if id not in self.store.cameras or id in self.store.deleted_cameras:
            raise NotFound("this camera does not exist", "CAMERA_NOT_FOUND", camera_id=id)
        return self.store.cameras[id]


def _with_defaults(given: camera_pb2.Camera) -> camera_pb2.Camera:
    defaults = camera_pb2.Camera(display_name=given.id, time_zone="", enabled=True)
    defaults.MergeFrom(given)
    return defaults


def _changed_paths(request: Any) -> Iterable[str]:
    """The settings that an update or a preview changes."""
    paths = set(request.update_mask.paths)
    if paths == {"*"}:
        return SETTINGS
    if paths - set(SETTINGS):
        raise Invalid("these are no settings of a camera", "BAD_FIELD_MASK")
    paths = paths or {f.name for f, _ in request.camera.ListFields() if f.has_presence and f.name in SETTINGS}
    if not paths:
        raise Invalid("no setting is given", "NOTHING_TO_UPDATE")
    return paths


def _check_settings(camera: camera_pb2.Camera, paths: Iterable[str]) -> None:
    labels = [
        label for name in ("thresholds", "size_filters") if name in paths for label in getattr(camera, name)
    ]
    if unknown := [label for label in sorted(labels) if canonical(label) not in (*WATCHED, "*")]:
        raise Invalid("this label is not watched", "BAD_LABEL", label=unknown[0])
    if "time_zone" in paths and camera.time_zone and not is_time_zone(camera.time_zone):
        raise Invalid("this is not an IANA time zone", "BAD_TIME_ZONE", field="time_zone")
    changed_scene(b"", {name: getattr(camera, name) for name in SCENE if name in paths})


class _Events(_Servicer, events_rpc.EventServiceServicer):
    async def GetEvent(self, request: Any, context: Any) -> Any:
        self.store.record("GetEvent", request)
        return event_service_pb2.GetEventResponse(event=self._get(request.event_id))

    def _get(self, id: str) -> event_pb2.Event:
        for event in self.store.events:
            if event.id == id:
                return self._with_camera_name(event)
        raise NotFound("this event does not exist", "EVENT_NOT_FOUND", event_id=id)

    def _with_camera_name(self, event: event_pb2.Event) -> event_pb2.Event:
        """With the name that the camera has now; the id if there is no such camera."""
        camera = self.store.cameras.get(event.camera_id)
        shown = event_pb2.Event()
        shown.CopyFrom(event)
        shown.camera_name = camera.display_name if camera else event.camera_id
        return shown

    async def ListEvents(self, request: Any, context: Any) -> Any:
        self.store.record("ListEvents", request)
        filter = request.filter
        events = [self._with_camera_name(event) for event in self.store.events if _matches(event, filter)]
        events.sort(key=lambda event: (_time(event.started_at), event.id), reverse=True)
        scope = ("events", filter.SerializeToString(deterministic=True))
        chosen, tokens, following = page(events, request.page_size or 50, request.page_token, "id", *scope)
        return event_service_pb2.ListEventsResponse(
            events=chosen, page_tokens=tokens, next_page_token=following
        )

    async def ReassessEvent(self, request: Any, context: Any) -> Any:
        self.store.record("ReassessEvent", request)
        return event_service_pb2.ReassessEventResponse(
            request_id=request.request_id or uuid("request"), event=self._get(request.event_id)
        )

    async def ListAssessments(self, request: Any, context: Any) -> Any:
        self.store.record("ListAssessments", request)
        history = self.store.assessments.get(request.event_id, [])
        scope = ("assessments", request.event_id)
        chosen, tokens, following = page(history, request.page_size or 20, request.page_token, "id", *scope)
        return event_service_pb2.ListAssessmentsResponse(
            assessments=chosen, page_tokens=tokens, next_page_token=following
        )

    async def GetRawAnswer(self, request: Any, context: Any) -> Any:
        self.store.record("GetRawAnswer", request)
        id = request.assessment_id
        if not any(each.id == id for history in self.store.assessments.values() for each in history):
            raise NotFound("this assessment does not exist", "ASSESSMENT_NOT_FOUND", assessment_id=id)
        return event_service_pb2.GetRawAnswerResponse(raw_answer=self.store.raw_answers.get(id, ""))

    async def BatchGetFailures(self, request: Any, context: Any) -> Any:
        self.store.record("BatchGetFailures", request)
        failures = [self.store.failures[id] for id in request.event_ids if id in self.store.failures]
        return event_service_pb2.BatchGetFailuresResponse(failures=failures)

    async def GetEvidence(self, request: Any, context: Any) -> Any:
        """By default only what the event itself says."""
        self.store.record("GetEvidence", request)
        for event in self.store.events:
            if event.id == request.event_id:
                said = Evidence(event_id=event.id, camera_id=event.camera_id)
                evidence = self.store.evidence.get(event.id, said)
                return event_service_pb2.GetEvidenceResponse(evidence=evidence)
        raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=request.event_id)

    async def IdentifyTrack(self, request: Any, context: Any) -> Any:
        self.store.record("IdentifyTrack", request)
        event = self._get(request.event_id)
        evidence = self.store.evidence.get(event.id)
        if evidence is None:
            raise Conflict("this event has no tracks", "EVIDENCE_TOO_OLD", event_id=event.id)
        for track in evidence.tracks:
            if track.id == request.track_id:
                track.identity.person_id = request.person_id
                return event_service_pb2.IdentifyTrackResponse(event=event)
        raise NotFound("the event has no such track", "TRACK_NOT_FOUND", track_id=request.track_id)

    async def SetFeedback(self, request: Any, context: Any) -> Any:
        self.store.record("SetFeedback", request)
        events = {event.id: event for event in self.store.events}
        event = events.get(request.event_id)
        id = request.assessment_id or (event.assessment.id if event else "")
        history = self.store.assessments.get(request.event_id, []) if event else []
        assessment = next((each for each in history if each.id == id), None)
        if assessment is None:
            raise NotFound(
                "the event has no such assessment", "ASSESSMENT_NOT_FOUND", event_id=request.event_id
            )
        feedback = event_service_pb2.Feedback(
            event_id=request.event_id,
            assessment_id=id,
            kind=request.kind,
            severity=right_severity(request.kind, request.severity, assessment.severity),
            note=request.note,
        )
        feedback.given_at.FromDatetime(NOON + timedelta(seconds=len(self.store.feedback)))
        self.store.feedback[id] = feedback
        return event_service_pb2.SetFeedbackResponse(feedback=feedback)

    async def BatchGetFeedback(self, request: Any, context: Any) -> Any:
        self.store.record("BatchGetFeedback", request)
        found = [self.store.feedback[id] for id in request.assessment_ids if id in self.store.feedback]
        return event_service_pb2.BatchGetFeedbackResponse(feedback=found)

    async def ListFeedback(self, request: Any, context: Any) -> Any:
        self.store.record("ListFeedback", request)
        newest = sorted(
            self.store.feedback.values(),
            key=lambda each: (_time(each.given_at), each.assessment_id),
            reverse=True,
        )
        chosen, _, following = page(
            newest, request.page_size or 50, request.page_token, "assessment_id", "feedback"
        )
        return event_service_pb2.ListFeedbackResponse(feedback=chosen, next_page_token=following)

    async def ListChanges(self, request: Any, context: Any) -> Any:
        self.store.record("ListChanges", request)
        changes, head = await self.store.list_changes(request.after, request.page_size or 200)
        return event_service_pb2.ListChangesResponse(changes=changes, head=head)

    async def GetStoreStatus(self, request: Any, context: Any) -> Any:
        self.store.record("GetStoreStatus", request)
        await self.store.until_answering("GetStoreStatus")
        return self.store.status


def _matches(event: event_pb2.Event, filter: event_service_pb2.EventFilter) -> bool:
    severity = event.assessment.severity if event.HasField("assessment") else None
    return (
        (not filter.camera_ids or event.camera_id in filter.camera_ids)
        and (not filter.labels or not set(filter.labels).isdisjoint(event.labels))
        and (not filter.zone_ids or not set(filter.zone_ids).isdisjoint(event.zone_ids))
        and (not filter.severities or severity in filter.severities)
        and (not filter.statuses or event.status in filter.statuses)
        and (not filter.HasField("started_after") or _time(event.started_at) >= _time(filter.started_after))
        and (not filter.HasField("started_before") or _time(event.started_at) < _time(filter.started_before))
    )


class _Media(_Servicer, media_rpc.MediaServiceServicer):
    async def BatchListFrames(self, request: Any, context: Any) -> Any:
        self.store.record("BatchListFrames", request)
        response = media_service_pb2.BatchListFramesResponse()
        for id in request.media_ids:
            response.media.add(media_id=id, frames=self.store.frames_of(id))
        return response

    def _known(self) -> dict[str, media_service_pb2.StoredMedia]:
        return {stored.media.id: stored for stored in self.store.media}

    async def GetMedia(self, request: Any, context: Any) -> Any:
        self.store.record("GetMedia", request)
        id = request.media_id
        if id not in self._known():
            raise NotFound("this media does not exist", "MEDIA_NOT_FOUND", media_id=id)
        return media_service_pb2.GetMediaResponse(media=self._known()[id])

    async def ListMedia(self, request: Any, context: Any) -> Any:
        self.store.record("ListMedia", request)
        cameras = sorted(request.camera_ids)
        media = [one for one in self.store.media if not cameras or one.media.camera_id in cameras]
        media.sort(key=_capture, reverse=True)
        scope = ("media", *cameras)
        chosen, tokens, following = page(
            media, request.page_size or 50, request.page_token, "media.id", *scope
        )
        return media_service_pb2.ListMediaResponse(
            media=chosen, page_tokens=tokens, next_page_token=following
        )

    async def BatchGetMedia(self, request: Any, context: Any) -> Any:
        self.store.record("BatchGetMedia", request)
        known = self._known()
        media = [known[id] for id in request.media_ids if id in known]
        return media_service_pb2.BatchGetMediaResponse(media=media)

    async def BatchListEventMedia(self, request: Any, context: Any) -> Any:
        """The media of an event are those in which it has detections."""
        self.store.record("BatchListEventMedia", request)
        response = media_service_pb2.BatchListEventMediaResponse()
        for id in request.event_ids:
            of_event = {stored.media_id for stored in self.store.detections if stored.event_id == id}
            media = [stored for stored in self.store.media if stored.media.id in of_event]
            response.events.add(event_id=id, media=sorted(media, key=_capture))
        return response

    async def ListRejections(self, request: Any, context: Any) -> Any:
        self.store.record("ListRejections", request)
        rejections = sorted(
            self.store.rejections, key=lambda one: (_time(one.rejected_at), one.id), reverse=True
        )
        chosen, tokens, following = page(
            rejections, request.page_size or 50, request.page_token, "id", "rejections"
        )
        return media_service_pb2.ListRejectionsResponse(
            rejections=chosen, page_tokens=tokens, next_page_token=following
        )


class _Renditions(_Servicer, renditions_rpc.RenditionServiceServicer):
    async def RequestRendition(self, request: Any, context: Any) -> Any:
        """What is not made waits; each caller waits for one."""
        self.store.record("RequestRendition", request)
        store, key = self.store, (request.kind, request.subject_id)
        self._require_subject(*key)
        if key not in store.renditions:
            waiting = [each for each in store.renditions.values() if each.state == WAITING]
            if any(store.requested_by[each.id] == caller.get().id for each in waiting):
                raise Exhausted("another one is being made", "TOO_MANY_RENDITIONS")
            id = uuid("rendition", *key)
            rendition = Rendition(id=id, kind=request.kind, subject_id=request.subject_id, state=WAITING)
            rendition.requested_at.FromDatetime(NOON)
            store.renditions[key], store.requested_by[id] = rendition, caller.get().id
        return rendition_service_pb2.RequestRenditionResponse(rendition=store.renditions[key])

    def _require_subject(self, kind: Any, id: str) -> None:
        store = self.store
        if kind in (RENDITION_KIND_FRAMES, RENDITION_KIND_PLAYABLE):
            shown = [stored for stored in store.media if stored.media.id == id]
            if not shown:
                raise NotFound("there is no such media", "MEDIA_NOT_FOUND", media_id=id)
        else:
            if not any(event.id == id for event in store.events):
                raise NotFound("there is no such event", "EVENT_NOT_FOUND", event_id=id)
            of_event = {stored.media_id for stored in store.detections if stored.event_id == id}
            shown = [stored for stored in store.media if stored.media.id in of_event]
        photos = kind == RENDITION_KIND_EVENT_PREVIEW
        if not any(photos or is_clip(stored.media.type) for stored in shown):
            raise Conflict("there is nothing to show", "NOTHING_TO_RENDER")


class _Detections(_Servicer, detections_rpc.DetectionServiceServicer):
    async def ListDetections(self, request: Any, context: Any) -> Any:
        self.store.record("ListDetections", request)
        parent = request.WhichOneof("parent")
        zones = request.zone_ids
        size, token = request.page_size, request.page_token
        frame = request.frame if request.HasField("frame") else None
        page = self._page(parent, getattr(request, parent), zones, size, token, frame)
        return detection_service_pb2.ListDetectionsResponse(
            detections=page.detections, page_tokens=page.page_tokens, next_page_token=page.next_page_token
        )

    async def BatchListDetections(self, request: Any, context: Any) -> Any:
        self.store.record("BatchListDetections", request)
        zones, size = request.zone_ids, request.page_size
        pages = [self._page("event_id", id, zones, size) for id in request.event_ids]
        pages += [self._page("media_id", id, zones, size) for id in request.media_ids]
        return detection_service_pb2.BatchListDetectionsResponse(pages=pages)

    def _page(
        self,
        parent: str,
        id: str,
        zones: Sequence[str],
        size: int,
        token: str = "",
        frame: int | None = None,
    ) -> detection_service_pb2.DetectionPage:
        detections = [
            stored
            for stored in self.store.detections
            if getattr(stored, parent) == id
            and (not zones or not set(zones).isdisjoint(stored.zone_ids))
            and frame in (None, stored.detection.frame)
        ]
        detections.sort(
            key=lambda stored: (_time(stored.captured_at), -stored.detection.score, stored.detection.id)
        )
        chosen, tokens, following = page(
            detections, size or 50, token, "detection.id", parent, id, *sorted(zones)
        )
        return detection_service_pb2.DetectionPage(
            parent_id=id, detections=chosen, page_tokens=tokens, next_page_token=following
        )


class _KeyChecks(_Servicer, key_checks_rpc.KeyCheckServiceServicer):
    async def VerifyKey(self, request: Any, context: Any) -> Any:
        self.store.record("VerifyKey", request)
        for secret, id in self.store.secrets.items():
            if digest(secret) == request.sha256:
                permissions = sorted(self.store.permissions.get(id, OF_A_KEY))
                return key_check_service_pb2.VerifyKeyResponse(
                    key_id=id, name="a test", permissions=permissions
                )
        raise Unauthenticated("this API key is not known", "BAD_API_KEY")

    async def VerifyDigest(self, request: Any, context: Any) -> Any:
        """No key of the fake is one of a camera."""
        self.store.record("VerifyDigest", request)
        raise Unauthenticated("no key of this camera fits", "BAD_API_KEY")


class _Ingest(_Servicer, ingest_rpc.IngestServiceServicer):
    async def GetIngestStatus(self, request: Any, context: Any) -> Any:
        self.store.record("GetIngestStatus", request)
        await self.store.until_answering("GetIngestStatus")
        return self.store.ingest


class _Detect(_Servicer, detect_rpc.DetectServiceServicer):
    async def GetDetectStatus(self, request: Any, context: Any) -> Any:
        self.store.record("GetDetectStatus", request)
        await self.store.until_answering("GetDetectStatus")
        return self.store.detect

    async def ListGpus(self, request: Any, context: Any) -> Any:
        self.store.record("ListGpus", request)
        await self.store.until_answering("ListGpus")
        return self.store.gpus


class _Reason(_Servicer, reason_rpc.ReasonServiceServicer):
    async def GetReasonStatus(self, request: Any, context: Any) -> Any:
        self.store.record("GetReasonStatus", request)
        await self.store.until_answering("GetReasonStatus")
        return self.store.reason


def _time(stamp: Any) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos


def _capture(stored: media_service_pb2.StoredMedia) -> tuple[tuple[int, int], str]:
    return _time(stored.media.captured_at), stored.media.id
