"""Renditions that are asked for while Lares is killed: one after another, each until it is ready."""

import asyncio

from google.protobuf.duration_pb2 import Duration

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from lares.store.v1.media_service_pb2 import ListMediaRequest
from lares.store.v1.media_service_pb2_grpc import MediaServiceStub
from lares.store.v1.rendition_pb2 import (
    RENDITION_KIND_EVENT_CLIP,
    RENDITION_KIND_EVENT_PREVIEW,
    RENDITION_KIND_FRAMES,
    RENDITION_STATE_FAILED,
    RENDITION_STATE_READY,
    RenditionKind,
)
from lares.store.v1.rendition_service_pb2 import RequestRenditionRequest
from lares.store.v1.rendition_service_pb2_grpc import RenditionServiceStub
from tests.kills.persistent_calls import persist
from tests.kills.scenario import UPLOADING_CAMERA
from tests.support.lares import Lares

KINDS = (RENDITION_KIND_FRAMES, RENDITION_KIND_EVENT_CLIP, RENDITION_KIND_EVENT_PREVIEW)


class RenditionRequester:
    """Asks for the frames of the only clip of a camera, and for the clip and the preview of its only event,
    from `begin` on. `is_waiting` means that one of them has been asked for and is not ready."""

    def __init__(self, lares: Lares) -> None:
        self._lares = lares
        self.is_waiting = False
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._request_all())

    def begin(self) -> None:
        self._begun.set()

    async def done(self) -> None:
        """Waits until all are ready. Raises AssertionError if one has failed."""
        await self._task

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _request_all(self) -> None:
        await self._begun.wait()
        for kind in KINDS:
            await persist(lambda kind=kind: self._try(kind))  # type: ignore[misc]

    async def _try(self, kind: RenditionKind.ValueType) -> bool:
        """Returns whether it is ready. It is asked for once no frame joins the event any more."""
        metadata = (("x-api-key", self._lares.key),)
        async with self._lares.grpc_channel() as channel:
            of_camera = events.ListEventsRequest(filter=events.EventFilter(camera_ids=[UPLOADING_CAMERA]))
            found = (
                await EventServiceStub(channel).ListEvents(of_camera, metadata=metadata, timeout=5)
            ).events
            if not found or not found[0].closed or found[0].status != EVENT_STATUS_ASSESSED:
                return False
            subject = found[0].id
            if kind == RENDITION_KIND_FRAMES:
                request = ListMediaRequest(camera_ids=[UPLOADING_CAMERA])
                listed = await MediaServiceStub(channel).ListMedia(request, metadata=metadata, timeout=5)
                (clip,) = listed.media
                subject = clip.media.id
            self.is_waiting = True
            wanted = RequestRenditionRequest(kind=kind, subject_id=subject, wait=Duration(seconds=2))
            answer = await RenditionServiceStub(channel).RequestRendition(
                wanted, metadata=metadata, timeout=15
            )
        rendition = answer.rendition
        assert rendition.state != RENDITION_STATE_FAILED, rendition.failure
        self.is_waiting = rendition.state != RENDITION_STATE_READY
        return not self.is_waiting
