"""Originals and thumbnails over HTTP."""

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from gateway.blob_response import BlobResponse
from gateway.drawing import VERSION, Box
from gateway.schema.paging import LARGEST_DETECTION_PAGE
from gateway.schema.reading import fraction, known_form
from gateway.siblings import Siblings
from gateway.thumbnails import Thumbnails
from lares.ingest.v1 import media_pb2
from lares.store.v1.detection_service_pb2 import BatchListDetectionsRequest, StoredDetection
from lares.store.v1.media_service_pb2 import GetMediaRequest
from mesh.blobs import Blobs
from mesh.boxes import edges_of
from mesh.problems import NotFound
from mesh.rpc import call

TYPES = {media_pb2.MEDIA_TYPE_JPEG: "image/jpeg", media_pb2.MEDIA_TYPE_PNG: "image/png"}
YEAR = 365 * 24 * 3600
HEADERS = {
    "cache-control": f"private, max-age={YEAR}, immutable",
    # Whatever a browser takes it for, it runs nothing and loads nothing.
    "content-security-policy": "default-src 'none'; sandbox",
}


class MediaFiles:
    """The store decides who may see what, so it is asked each time."""

    def __init__(self, siblings: Siblings, blobs: Blobs, thumbnails: Thumbnails) -> None:
        self._siblings, self._blobs, self._thumbnails = siblings, blobs, thumbnails

    async def original(self, request: Request) -> Response:
        """The bytes as they came, whole or in ranges. Raises NotFound and what
        the blobs raise."""
        media = await self._media(request)
        headers = HEADERS | {"etag": f'"{media.sha256}"'}
        if _has(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        size = await self._blobs.size(media.sha256)
        kind = TYPES.get(media.type, "application/octet-stream")
        return BlobResponse(self._blobs, media.sha256, size, media.ingested_at.seconds, headers, kind)

    async def thumbnail(self, request: Request) -> Response:
        """A small JPEG with a box around everything found. Raises NotFound."""
        media = await self._media(request)
        boxes = [_box(found) for found in await self._detections(media.id)]
        name = sha256(repr((VERSION, media.sha256, boxes)).encode()).hexdigest()
        headers = HEADERS | {"etag": f'"{name}"'}
        if _has(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        picture = await self._thumbnails.get(name, media.sha256, boxes)
        return Response(picture, headers=headers, media_type="image/jpeg")

    async def _media(self, request: Request) -> media_pb2.Media:
        id = request.path_params["id"]
        if not known_form(id):
            raise NotFound("there is no such media", "MEDIA_NOT_FOUND")
        answer = await call(self._siblings.media.GetMedia, GetMediaRequest(media_id=id))
        return answer.media.media

    async def _detections(self, media_id: str) -> list[StoredDetection]:
        request = BatchListDetectionsRequest(media_ids=[media_id], page_size=LARGEST_DETECTION_PAGE)
        answer = await call(self._siblings.detections.BatchListDetections, request)
        return [found for page in answer.pages for found in page.detections]


def _box(found: StoredDetection) -> Box:
    x_min, y_min, x_max, y_max = map(fraction, edges_of(found.detection))
    return (found.detection.label, fraction(found.detection.score), x_min, y_min, x_max, y_max)


def _has(request: Request, etag: str) -> bool:
    """Whether the client says that it has this one; a weak tag will do, as the standard has it."""
    named = request.headers.get("if-none-match", "")
    return named.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in named.split(","))
