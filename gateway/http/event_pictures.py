"""The clip and the preview of an event over HTTP."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.http.media import rendition_response
from gateway.http.renditions import RenditionFinder
from gateway.schema.message_fields import is_uuid
from lares.store.v1.rendition_pb2 import (
    RENDITION_KIND_EVENT_CLIP,
    RENDITION_KIND_EVENT_PREVIEW,
    RenditionKind,
)
from mesh.blobs import Blobs
from mesh.problems import NotFound


class EventPictureEndpoint:
    def __init__(self, blobs: Blobs, renditions: RenditionFinder) -> None:
        self._blobs, self._renditions = blobs, renditions

    async def clip(self, request: Request) -> Response:
        """Responds with what clips show of an event. Raises NotFound, also if no clip does."""
        return await self._respond(request, RENDITION_KIND_EVENT_CLIP)

    async def preview(self, request: Request) -> Response:
        """Responds with an animated picture of an event. Raises NotFound, also if it has no detections."""
        return await self._respond(request, RENDITION_KIND_EVENT_PREVIEW)

    async def _respond(self, request: Request, kind: RenditionKind.ValueType) -> Response:
        id = request.path_params["id"]
        if not is_uuid(id):
            raise NotFound("this event does not exist", "EVENT_NOT_FOUND")
        found = await self._renditions.find(kind, id)
        return found if isinstance(found, Response) else rendition_response(request, self._blobs, found)
