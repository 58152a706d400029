"""Batches what the resolvers of one request load: a page of events costs one call of each kind, not one call
for each event.

The history of assessments, the evidence, the raw answers and the warnings about cameras are exceptions. The
store cannot list them in batches, and gateway.graphql.limits counts those calls.
"""

import asyncio
from functools import cached_property

from strawberry.dataloader import DataLoader

from gateway.siblings import Siblings
from lares.reason.v1 import evidence_pb2
from lares.store.v1 import (
    camera_pb2,
    camera_service_pb2,
    detection_service_pb2,
    event_service_pb2,
    media_service_pb2,
)
from mesh.problems import Conflict, NotFound
from mesh.rpc import call

# The most ids that the store accepts in one batch.
MAX_CAMERAS = MAX_MEDIA = 1000
MAX_EVENTS = MAX_ASSESSMENTS = MAX_FRAME_LISTS = 200
LARGEST_DETECTION_PAGE = 500
# How many calls one request makes at the same time where there is no batch.
MAX_CONCURRENT_CALLS = 8

EvidenceMessage = evidence_pb2.Evidence
CameraMessage = camera_pb2.Camera
MediaMessage = media_service_pb2.StoredMedia
DetectionPage = detection_service_pb2.DetectionPage
FailureMessage = event_service_pb2.EventFailure
FeedbackMessage = event_service_pb2.Feedback
AssessmentPage = event_service_pb2.ListAssessmentsResponse
FrameMessage = media_service_pb2.StoredFrame
# Of one media, by the index of the frame.
FrameDetections = dict[int, list[detection_service_pb2.StoredDetection]]
DetectionKey = tuple[str, int, tuple[str, ...]]  # the parent's id, page size, zones
AssessmentKey = tuple[str, int, str]  # the event's id, page size, page token


class Loaders:
    """One for each request and for each change that a subscription sends, so that nothing is kept longer.
    What the store does not know is loaded as None, or as empty.
    Each loader is made when it is first used, because most requests use none."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    @cached_property
    def _calls(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(MAX_CONCURRENT_CALLS)

    @cached_property
    def camera(self) -> DataLoader[str, CameraMessage | None]:
        return DataLoader(self._cameras, max_batch_size=MAX_CAMERAS)

    @cached_property
    def media(self) -> DataLoader[str, MediaMessage | None]:
        return DataLoader(self._media, max_batch_size=MAX_MEDIA)

    @cached_property
    def event_media(self) -> DataLoader[str, list[MediaMessage]]:
        return DataLoader(self._event_media, max_batch_size=MAX_EVENTS)

    @cached_property
    def event_detections(self) -> DataLoader[DetectionKey, DetectionPage]:
        return DataLoader(self._event_detections, max_batch_size=MAX_EVENTS)

    @cached_property
    def failure(self) -> DataLoader[str, FailureMessage | None]:
        return DataLoader(self._failures, max_batch_size=MAX_EVENTS)

    @cached_property
    def feedback(self) -> DataLoader[str, FeedbackMessage | None]:
        return DataLoader(self._feedback, max_batch_size=MAX_ASSESSMENTS)

    @cached_property
    def assessments(self) -> DataLoader[AssessmentKey, AssessmentPage]:
        return DataLoader(self._assessments, max_batch_size=MAX_EVENTS)

    @cached_property
    def evidence(self) -> DataLoader[str, EvidenceMessage | None]:
        return DataLoader(self._evidence, max_batch_size=MAX_EVENTS)

    @cached_property
    def raw_answer(self) -> DataLoader[str, str]:
        return DataLoader(self._raw_answers, max_batch_size=MAX_EVENTS)

    @cached_property
    def warnings(self) -> DataLoader[str, list[str]]:
        return DataLoader(self._warnings, max_batch_size=MAX_CAMERAS)

    @cached_property
    def media_detections(self) -> DataLoader[DetectionKey, DetectionPage]:
        return DataLoader(self._media_detections, max_batch_size=MAX_MEDIA)

    @cached_property
    def frames(self) -> DataLoader[str, list[FrameMessage]]:
        return DataLoader(self._frames, max_batch_size=MAX_FRAME_LISTS)

    @cached_property
    def frame_detections(self) -> DataLoader[str, FrameDetections]:
        return DataLoader(self._frame_detections, max_batch_size=MAX_FRAME_LISTS)

    async def _cameras(self, ids: list[str]) -> list[CameraMessage | None]:
        request = camera_service_pb2.BatchGetCamerasRequest(camera_ids=ids)
        response = await call(self._siblings.cameras.BatchGetCameras, request)
        cameras = {camera.id: camera for camera in response.cameras}
        return [cameras.get(id) for id in ids]

    async def _media(self, ids: list[str]) -> list[MediaMessage | None]:
        request = media_service_pb2.BatchGetMediaRequest(media_ids=ids)
        response = await call(self._siblings.media.BatchGetMedia, request)
        media = {stored.media.id: stored for stored in response.media}
        return [media.get(id) for id in ids]

    async def _feedback(self, ids: list[str]) -> list[FeedbackMessage | None]:
        request = event_service_pb2.BatchGetFeedbackRequest(assessment_ids=ids)
        response = await call(self._siblings.events.BatchGetFeedback, request)
        feedback = {each.assessment_id: each for each in response.feedback}
        return [feedback.get(id) for id in ids]

    async def _failures(self, ids: list[str]) -> list[FailureMessage | None]:
        request = event_service_pb2.BatchGetFailuresRequest(event_ids=ids)
        response = await call(self._siblings.events.BatchGetFailures, request)
        failures = {failure.event_id: failure for failure in response.failures}
        return [failures.get(id) for id in ids]

    async def _event_media(self, ids: list[str]) -> list[list[MediaMessage]]:
        request = media_service_pb2.BatchListEventMediaRequest(event_ids=ids)
        response = await call(self._siblings.media.BatchListEventMedia, request)
        media = {event.event_id: list(event.media) for event in response.events}
        return [media.get(id, []) for id in ids]

    async def _event_detections(self, keys: list[DetectionKey]) -> list[DetectionPage]:
        return await self._detections("event_ids", keys)

    async def _media_detections(self, keys: list[DetectionKey]) -> list[DetectionPage]:
        return await self._detections("media_ids", keys)

    async def _detections(self, parents: str, keys: list[DetectionKey]) -> list[DetectionPage]:
        """Makes one call for each page size and choice of zones."""
        pages: dict[DetectionKey, DetectionPage] = {}
        for size, zones in {(size, zones) for _, size, zones in keys}:
            ids = [id for id, *wanted in keys if wanted == [size, zones]]
            request = detection_service_pb2.BatchListDetectionsRequest(page_size=size, zone_ids=zones)
            getattr(request, parents).extend(ids)
            response = await call(self._siblings.detections.BatchListDetections, request)
            pages |= {(page.parent_id, size, zones): page for page in response.pages}
        return [pages.get(key, DetectionPage(parent_id=key[0])) for key in keys]

    async def _frames(self, media_ids: list[str]) -> list[list[FrameMessage]]:
        request = media_service_pb2.BatchListFramesRequest(media_ids=media_ids)
        response = await call(self._siblings.media.BatchListFrames, request)
        frames = {media.media_id: list(media.frames) for media in response.media}
        return [frames.get(id, []) for id in media_ids]

    async def _frame_detections(self, media_ids: list[str]) -> list[FrameDetections]:
        """One call for the first pages of all media, and one for each further page of a media."""
        size = LARGEST_DETECTION_PAGE
        request = detection_service_pb2.BatchListDetectionsRequest(media_ids=media_ids, page_size=size)
        response = await call(self._siblings.detections.BatchListDetections, request)
        found: dict[str, FrameDetections] = {id: {} for id in media_ids}
        for page in response.pages:
            detections, token = list(page.detections), page.next_page_token
            while token:
                more = await call(
                    self._siblings.detections.ListDetections,
                    detection_service_pb2.ListDetectionsRequest(
                        media_id=page.parent_id, page_size=size, page_token=token
                    ),
                )
                detections += more.detections
                token = more.next_page_token
            for stored in detections:
                found[page.parent_id].setdefault(stored.detection.frame, []).append(stored)
        return [found[id] for id in media_ids]

    async def _assessments(self, keys: list[AssessmentKey]) -> list[AssessmentPage | BaseException]:
        return await asyncio.gather(*map(self._assessments_of_event, keys), return_exceptions=True)

    async def _assessments_of_event(self, key: AssessmentKey) -> AssessmentPage:
        event_id, size, token = key
        request = event_service_pb2.ListAssessmentsRequest(
            event_id=event_id, page_size=size, page_token=token
        )
        async with self._calls:
            return await call(self._siblings.events.ListAssessments, request)

    async def _evidence(self, event_ids: list[str]) -> list[EvidenceMessage | BaseException | None]:
        return await asyncio.gather(*map(self._evidence_of_event, event_ids), return_exceptions=True)

    async def _evidence_of_event(self, event_id: str) -> EvidenceMessage | None:
        request = event_service_pb2.GetEvidenceRequest(event_id=event_id)
        try:
            async with self._calls:
                return (await call(self._siblings.events.GetEvidence, request)).evidence
        except (NotFound, Conflict):
            return None

    async def _raw_answers(self, assessment_ids: list[str]) -> list[str | BaseException]:
        return await asyncio.gather(*map(self._raw_answer, assessment_ids), return_exceptions=True)

    async def _raw_answer(self, assessment_id: str) -> str:
        request = event_service_pb2.GetRawAnswerRequest(assessment_id=assessment_id)
        try:
            async with self._calls:
                return (await call(self._siblings.events.GetRawAnswer, request)).raw_answer
        except NotFound:
            return ""

    async def _warnings(self, camera_ids: list[str]) -> list[list[str] | BaseException]:
        return await asyncio.gather(*map(self._warnings_of_camera, camera_ids), return_exceptions=True)

    async def _warnings_of_camera(self, camera_id: str) -> list[str]:
        try:
            async with self._calls:
                request = camera_service_pb2.GetCameraRequest(camera_id=camera_id)
                return list((await call(self._siblings.cameras.GetCamera, request)).camera.warnings)
        except NotFound:
            return []
