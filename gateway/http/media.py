"""Originals and thumbnails over HTTP."""

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from gateway.http.blob_response import BlobResponse
from gateway.http.thumbnail_cache import ThumbnailCache
from gateway.schema.message_fields import is_uuid, round_float32
from gateway.schema.paging import LARGEST_DETECTION_PAGE
from gateway.siblings import Siblings
from lares.ingest.v1 import media_pb2
from lares.store.v1.detection_service_pb2 import BatchListDetectionsRequest, StoredDetection
from lares.store.v1.media_service_pb2 import GetMediaRequest
from mesh.blobs import Blobs
from mesh.boxes import LabelledBox, edges_of
from mesh.media_types import mime_type
from mesh.problems import NotFound
from mesh.rpc import call

# Part of every thumbnail's name. Increase it when thumbnails change their look.
THUMBNAIL_VERSION = 2
YEAR_SECONDS = 365 * 24 * 3600
HEADERS = {
    "cache-control": f"private, max-age={YEAR_SECONDS}, immutable",
    # Whatever type a browser takes the bytes for, it runs no script and loads nothing.
    "content-security-policy": "default-src 'none'; sandbox",
}


class MediaEndpoint:
    """Asks the store for every request, because the store decides what the caller may see."""

    def __init__(self, siblings: Siblings, blobs: Blobs, thumbnails: ThumbnailCache) -> None:
        self._siblings, self._blobs, self._thumbnails = siblings, blobs, thumbnails

    async def original(self, request: Request) -> Response:
        """Responds with the original bytes, whole or in ranges. Raises NotFound, and what the blobs raise."""
        media = await self._get_media(request)
        headers = HEADERS | {"etag": f'"{media.sha256}"'}
        if _matches(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        size = await self._blobs.size(media.sha256)
        return BlobResponse(
            self._blobs, media.sha256, size, media.ingested_at.seconds, headers, mime_type(media.type)
        )

    async def thumbnail(self, request: Request) -> Response:
        """Responds with a small JPEG with a box around every detection. Raises NotFound."""
        media = await self._get_media(request)
        boxes = [_labelled_box(stored) for stored in await self._list_detections(media.id)]
        name = sha256(repr((THUMBNAIL_VERSION, media.sha256, boxes)).encode()).hexdigest()
        headers = HEADERS | {"etag": f'"{name}"'}
        if _matches(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        thumbnail = await self._thumbnails.get(name, media.sha256, boxes)
        return Response(thumbnail, headers=headers, media_type="image/jpeg")

    async def _get_media(self, request: Request) -> media_pb2.Media:
        id = request.path_params["id"]
        if not is_uuid(id):
            raise NotFound("this media does not exist", "MEDIA_NOT_FOUND")
        response = await call(self._siblings.media.GetMedia, GetMediaRequest(media_id=id))
        return response.media.media

    async def _list_detections(self, media_id: str) -> list[StoredDetection]:
        request = BatchListDetectionsRequest(media_ids=[media_id], page_size=LARGEST_DETECTION_PAGE)
        response = await call(self._siblings.detections.BatchListDetections, request)
        return [stored for page in response.pages for stored in page.detections]


def _labelled_box(stored: StoredDetection) -> LabelledBox:
    x_min, y_min, x_max, y_max = map(round_float32, edges_of(stored.detection))
    return (stored.detection.label, round_float32(stored.detection.score), x_min, y_min, x_max, y_max)


def _matches(request: Request, etag: str) -> bool:
    """Whether the client has this entity already. Tags are compared weakly, as RFC 9110 requires for
    If-None-Match."""
    header = request.headers.get("if-none-match", "")
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))
