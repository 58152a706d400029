"""Originals, pictures of frames, thumbnails and playable copies of media over HTTP."""

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from gateway.http.blob_response import BlobResponse
from gateway.http.http_caching import CHANGING, IMMUTABLE, has_entity
from gateway.http.renditions import RenditionFinder
from gateway.http.thumbnail_cache import PictureSource, ThumbnailCache
from gateway.schema.message_fields import is_uuid, round_float32
from gateway.schema.paging import LARGEST_DETECTION_PAGE
from gateway.siblings import Siblings
from lares.detect.v1.events_pb2 import RenderedPart
from lares.ingest.v1 import media_pb2
from lares.store.v1.detection_service_pb2 import ListDetectionsRequest, StoredDetection
from lares.store.v1.media_service_pb2 import GetMediaRequest, StoredMedia
from lares.store.v1.rendition_pb2 import RENDITION_KIND_FRAMES, RENDITION_KIND_PLAYABLE, Rendition
from mesh.blobs import Blobs
from mesh.boxes import LabelledBox, edges_of
from mesh.media_types import browsers_play, is_clip, mime_type
from mesh.problems import NotFound
from mesh.rpc import call

# Part of every thumbnail's name. Increase it when thumbnails change their look.
THUMBNAIL_VERSION = 2
LARGEST_INDEX = 2**31 - 1


class MediaEndpoint:
    """Asks the store for every request, because the store decides what the caller may see.

    Pictures of a clip's frames are parts of one rendition; what is not made yet is answered by
    `RenditionFinder`. A photo is its only frame, with the index 0.
    """

    def __init__(
        self, siblings: Siblings, blobs: Blobs, thumbnails: ThumbnailCache, renditions: RenditionFinder
    ) -> None:
        self._siblings, self._blobs, self._thumbnails = siblings, blobs, thumbnails
        self._renditions = renditions

    async def original(self, request: Request) -> Response:
        """Responds with the original bytes, whole or in ranges. Raises NotFound, and what the blobs raise."""
        return await self._original(request, (await self._get_media(request)).media)

    async def frame(self, request: Request) -> Response:
        """Responds with the picture of a frame, without boxes. Raises NotFound."""
        return await self._picture(request, await self._get_media(request), _frame_index(request))

    async def poster(self, request: Request) -> Response:
        """Responds with the picture of the frame that shows most. Raises NotFound."""
        stored = await self._get_media(request)
        return await self._picture(request, stored, stored.poster_frame)

    async def playable(self, request: Request) -> Response:
        """Responds with a copy of a clip that browsers play, or with the original if they play that. Raises
        NotFound."""
        media = (await self._get_media(request)).media
        if browsers_play(media.type, media.clip.video_codec):
            return await self._original(request, media)
        found = await self._renditions.find(RENDITION_KIND_PLAYABLE, media.id)
        return found if isinstance(found, Response) else rendition_response(request, self._blobs, found)

    async def thumbnail(self, request: Request) -> Response:
        """Responds with a small JPEG, of a clip's poster, with a box around every detection. Raises
        NotFound."""
        stored = await self._get_media(request)
        return await self._thumbnail(request, stored, stored.poster_frame)

    async def frame_thumbnail(self, request: Request) -> Response:
        """Responds with a small JPEG of a frame with a box around every detection. Raises NotFound."""
        return await self._thumbnail(request, await self._get_media(request), _frame_index(request))

    async def _original(self, request: Request, media: media_pb2.Media) -> Response:
        headers = IMMUTABLE | {"etag": f'"{media.sha256}"'}
        if has_entity(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        size = await self._blobs.size(media.sha256)
        return BlobResponse(
            self._blobs, media.sha256, size, media.ingested_at.seconds, headers, mime_type(media.type)
        )

    async def _picture(self, request: Request, stored: StoredMedia, index: int) -> Response:
        media = stored.media
        if not is_clip(media.type):
            _require_only_frame(index)
            return await self._original(request, media)
        found = await self._renditions.find(RENDITION_KIND_FRAMES, media.id)
        if isinstance(found, Response):
            return found
        return rendition_response(request, self._blobs, found, _part(found, index))

    async def _thumbnail(self, request: Request, stored: StoredMedia, index: int) -> Response:
        media = stored.media
        if not is_clip(media.type):
            _require_only_frame(index)
            picture = PictureSource(media.sha256)
        else:
            found = await self._renditions.find(RENDITION_KIND_FRAMES, media.id)
            if isinstance(found, Response):
                return found
            part = _part(found, index)
            picture = PictureSource(found.blob.sha256, part.offset, part.size_bytes)
        boxes = [_labelled_box(stored) for stored in await self._list_detections(media.id, index)]
        name = sha256(repr((THUMBNAIL_VERSION, *picture, boxes)).encode()).hexdigest()
        headers = IMMUTABLE | {"etag": f'"{name}"'}
        if has_entity(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        thumbnail = await self._thumbnails.get(name, picture, boxes)
        return Response(thumbnail, headers=headers, media_type="image/jpeg")

    async def _get_media(self, request: Request) -> StoredMedia:
        id = request.path_params["id"]
        if not is_uuid(id):
            raise NotFound("this media does not exist", "MEDIA_NOT_FOUND")
        return (await call(self._siblings.media.GetMedia, GetMediaRequest(media_id=id))).media

    async def _list_detections(self, media_id: str, index: int) -> list[StoredDetection]:
        request = ListDetectionsRequest(media_id=media_id, page_size=LARGEST_DETECTION_PAGE, frame=index)
        return list((await call(self._siblings.detections.ListDetections, request)).detections)


def rendition_response(
    request: Request, blobs: Blobs, rendition: Rendition, part: RenderedPart | None = None
) -> Response:
    """Responds with the content of a rendition, or with a part of it, whole or in ranges. An event has
    another one when it has grown, and a rendition that is made again may differ."""
    blob = rendition.blob
    etag = f'"{blob.sha256}"' if part is None else f'"{blob.sha256}-{part.frame}"'
    headers = CHANGING | {"etag": etag}
    if has_entity(request, etag):
        return Response(status_code=304, headers=headers)
    offset, size = (part.offset, part.size_bytes) if part else (0, blob.size_bytes)
    modified = rendition.requested_at.seconds
    return BlobResponse(blobs, blob.sha256, size, modified, headers, blob.content_type, offset)


def _part(rendition: Rendition, index: int) -> RenderedPart:
    for part in rendition.blob.parts:
        if part.frame == index:
            return part
    raise _no_frame()


def _frame_index(request: Request) -> int:
    text = request.path_params["index"]
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(LARGEST_INDEX)):
        raise _no_frame()
    index = int(text)
    if index > LARGEST_INDEX:
        raise _no_frame()
    return index


def _require_only_frame(index: int) -> None:
    if index:
        raise _no_frame()


def _no_frame() -> NotFound:
    return NotFound("the detector has not looked at such a frame", "FRAME_NOT_FOUND")


def _labelled_box(stored: StoredDetection) -> LabelledBox:
    x_min, y_min, x_max, y_max = map(round_float32, edges_of(stored.detection))
    return (stored.detection.label, round_float32(stored.detection.score), x_min, y_min, x_max, y_max)
