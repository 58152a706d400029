"""What one request loads in batches: a page of events costs a call per kind, not per event.

But for the history of its judgements and raw answers, of which the store has no batch: gateway.limits counts
those calls.
"""

import asyncio

from strawberry.dataloader import DataLoader

from gateway.siblings import Siblings
from lares.store.v1 import (
    camera_pb2,
    camera_service_pb2,
    detection_service_pb2,
    event_service_pb2,
    media_service_pb2,
)
from mesh.problems import NotFound
from mesh.rpc import call

# The store's bounds for one batch.
CAMERAS = MEDIA = 1000
EVENTS = 200
# How many calls a request makes at the same time where there is no batch.
TOGETHER = 8

Camera = camera_pb2.Camera
Media = media_service_pb2.StoredMedia
Page = detection_service_pb2.DetectionPage
Failure = event_service_pb2.EventFailure
History = event_service_pb2.ListAssessmentsResponse
Key = tuple[str, int]  # parent's id, page size
HistoryKey = tuple[str, int, str]  # event's id, page size, page token


class Loaders:
    """One per request, and per entry of a subscription: nothing is remembered beyond. What the store does not
    know is None, or empty."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings
        self._turns = asyncio.Semaphore(TOGETHER)
        self.camera = DataLoader[str, Camera | None](self._cameras, max_batch_size=CAMERAS)
        self.media = DataLoader[str, Media | None](self._media, max_batch_size=MEDIA)
        self.event_media = DataLoader[str, list[Media]](self._event_media, max_batch_size=EVENTS)
        self.event_detections = DataLoader[Key, Page](self._event_detections, max_batch_size=EVENTS)
        self.failure = DataLoader[str, Failure | None](self._failures, max_batch_size=EVENTS)
        self.assessments = DataLoader[HistoryKey, History](self._assessments, max_batch_size=EVENTS)
        self.raw_answer = DataLoader[str, str](self._raw_answers, max_batch_size=EVENTS)
        self.media_detections = DataLoader[Key, Page](self._media_detections, max_batch_size=MEDIA)

    async def _cameras(self, ids: list[str]) -> list[Camera | None]:
        request = camera_service_pb2.BatchGetCamerasRequest(camera_ids=ids)
        answer = await call(self._siblings.cameras.BatchGetCameras, request)
        known = {camera.id: camera for camera in answer.cameras}
        return [known.get(id) for id in ids]

    async def _media(self, ids: list[str]) -> list[Media | None]:
        request = media_service_pb2.BatchGetMediaRequest(media_ids=ids)
        answer = await call(self._siblings.media.BatchGetMedia, request)
        known = {stored.media.id: stored for stored in answer.media}
        return [known.get(id) for id in ids]

    async def _failures(self, ids: list[str]) -> list[Failure | None]:
        request = event_service_pb2.BatchGetFailuresRequest(event_ids=ids)
        answer = await call(self._siblings.events.BatchGetFailures, request)
        known = {failure.event_id: failure for failure in answer.failures}
        return [known.get(id) for id in ids]

    async def _event_media(self, ids: list[str]) -> list[list[Media]]:
        request = media_service_pb2.BatchListEventMediaRequest(event_ids=ids)
        answer = await call(self._siblings.media.BatchListEventMedia, request)
        known = {event.event_id: list(event.media) for event in answer.events}
        return [known.get(id, []) for id in ids]

    async def _event_detections(self, keys: list[Key]) -> list[Page]:
        return await self._pages("event_ids", keys)

    async def _media_detections(self, keys: list[Key]) -> list[Page]:
        return await self._pages("media_ids", keys)

    async def _assessments(self, keys: list[HistoryKey]) -> list[History | BaseException]:
        return await asyncio.gather(*map(self._history, keys), return_exceptions=True)

    async def _history(self, key: HistoryKey) -> History:
        event_id, size, token = key
        request = event_service_pb2.ListAssessmentsRequest(
            event_id=event_id, page_size=size, page_token=token
        )
        async with self._turns:
            return await call(self._siblings.events.ListAssessments, request)

    async def _raw_answers(self, assessment_ids: list[str]) -> list[str | BaseException]:
        return await asyncio.gather(*map(self._raw_answer, assessment_ids), return_exceptions=True)

    async def _raw_answer(self, assessment_id: str) -> str:
        request = event_service_pb2.GetRawAnswerRequest(assessment_id=assessment_id)
        try:
            async with self._turns:
                return (await call(self._siblings.events.GetRawAnswer, request)).raw_answer
        except NotFound:
            return ""

    async def _pages(self, parents: str, keys: list[Key]) -> list[Page]:
        known: dict[Key, Page] = {}
        for size in {size for _, size in keys}:
            ids = [id for id, wanted in keys if wanted == size]
            request = detection_service_pb2.BatchListDetectionsRequest(page_size=size)
            getattr(request, parents).extend(ids)
            answer = await call(self._siblings.detections.BatchListDetections, request)
            known |= {(page.parent_id, size): page for page in answer.pages}
        return [known.get(key, Page(parent_id=key[0])) for key in keys]
