# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""Media in which the detector has looked for objects, and what it detected."""

from collections.abc import Callable, Iterable
from enum import Enum
from operator import attrgetter
from typing import Any, Literal

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from strawberry.dataloader import DataLoader

from gateway.context import Info
from gateway.loaders import DetectionKey
from gateway.schema.camera import Camera
from gateway.schema.message_fields import is_uuid, message_field, round_float32, to_list
from gateway.schema.paging import (
    LARGEST_DETECTION_PAGE,
    PAGE,
    Connection,
    connect,
    page_size,
)
from lares.detect.v1 import detection_pb2
from lares.ingest.v1 import media_pb2
from lares.store.v1 import camera_pb2, media_service_pb2
from lares.store.v1.detection_service_pb2 import (
    DetectionPage,
    ListDetectionsRequest,
    ListDetectionsResponse,
    StoredDetection,
)
from mesh.boxes import edges_of
from mesh.media_types import browsers_play, container, is_clip
from mesh.permissions import READ
from mesh.problems import NotFound
from mesh.rpc import call
from mesh.security import current_caller

ON_DEMAND = "It is made when it is asked for: meanwhile the answer is 202, with Retry-After."
IN_ZONES = "With `zoneIds`, only those in at least one of these zones; an empty list matches nothing."


@strawberry.type(description="The edges of a box, as fractions (0 to 1) of the upright photo.")
class Box:
    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @classmethod
    def of_detection(cls, detection: detection_pb2.Detection) -> "Box":
        return cls.of_edges(edges_of(detection))

    @classmethod
    def of_edges(cls, edges: Iterable[float]) -> "Box":
        """`edges` are x_min, y_min, x_max, y_max."""
        x_min, y_min, x_max, y_max = map(round_float32, edges)
        return cls(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


@strawberry.type(description="One object in a frame that the watch policy has kept.")
class Detection:
    message: strawberry.Private[StoredDetection]
    id: strawberry.ID = message_field("detection.id")
    label: str = message_field("detection.label", description="A COCO class name.")
    score: float = message_field("detection.score", round_float32, description="0 to 1.")
    box: Box = message_field("detection", Box.of_detection)
    captured_at: Timestamp = message_field("captured_at")
    zones: list[strawberry.ID] = message_field(
        "zone_ids",
        to_list,
        description="The ids of the zones that contain its foot point, as they were when it was recorded.",
    )

    @strawberry.field
    async def media(self, info: Info) -> "Media":
        stored = await info.context.loaders.media.load(self.message.media_id)
        if stored is None:
            raise NotFound("this media was deleted", "MEDIA_NOT_FOUND")
        return Media(message=stored)


@strawberry.type(
    description="A picture of a media in which the detector has looked for objects. A photo has one, with "
    "the index 0."
)
class Frame:
    message: strawberry.Private[media_service_pb2.StoredFrame]
    media_id: strawberry.Private[str]
    url: str = strawberry.field(description=f"The path of its picture on this server. {ON_DEMAND}")
    thumbnail_url: str = strawberry.field(
        description=f"The path of a small JPEG with boxes on this server. {ON_DEMAND}"
    )
    index: int = message_field(
        "index", description="In a clip, its time in milliseconds after the first frame."
    )
    captured_at: Timestamp = message_field("captured_at")
    width: int = message_field("width", description="In pixels, of the upright picture.")
    height: int = message_field("height", description="In pixels, of the upright picture.")
    motion_significance: float = message_field(
        "motion_significance",
        round_float32,
        description="How much moved since the frame before, 0 to 1; 0 for a photo.",
    )

    @strawberry.field(description="Best score first.")
    async def detections(self, info: Info) -> list[Detection]:
        of_media = await info.context.loaders.frame_detections.load(self.media_id)
        return [Detection(message=stored) for stored in of_media.get(self.message.index, [])]


def _playable_url(media: media_pb2.Media) -> str | None:
    if not is_clip(media.type):
        return None
    plays = browsers_play(media.type, media.clip.video_codec)
    return f"/media/{media.id}" if plays else f"/media/{media.id}/playable"


@strawberry.enum
class MediaKind(Enum):
    PHOTO = 0
    CLIP = 1


@strawberry.enum(description="What says when a media was captured.")
class CapturedAtSource(Enum):
    UNKNOWN = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_UNSPECIFIED, description="A source that only a newer version knows."
    )
    DECLARED = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_DECLARED, description="Declared by the uploader."
    )
    EXIF = strawberry.enum_value(media_pb2.CAPTURED_AT_SOURCE_EXIF, description="The photo's EXIF.")
    FILE_NAME = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_FILE_NAME, description="A time in the file's name, in the camera's zone."
    )
    CONTAINER = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_CONTAINER, description="The clip's creation time."
    )
    CONTAINER_LOCAL = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_CONTAINER_LOCAL,
        description="The clip's creation time, read as the camera's local time, because that agrees with the"
        " file's modification time.",
    )
    MTIME = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_MTIME, description="The file's modification time."
    )
    MTIME_LESS_DURATION = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_MTIME_LESS_DURATION,
        description="The file's modification time, less the clip's duration.",
    )
    CTIME = strawberry.enum_value(
        media_pb2.CAPTURED_AT_SOURCE_CTIME,
        description="The time of arrival, because the other sources were not believed.",
    )


def _source(number: int) -> int:
    return number if number in media_pb2.CapturedAtSource.values() else 0


def _of_clip(read: Callable[[media_pb2.Clip], Any]) -> Callable[[media_pb2.Media], Any]:
    """Null for a photo, and where the container does not say."""
    return lambda media: (read(media.clip) or None) if media.HasField("clip") else None


def _seconds(clip: media_pb2.Clip) -> float:
    return round(clip.duration.ToMilliseconds() / 1000, 3)


@strawberry.type(description="One file as the camera made it.")
class Media:
    message: strawberry.Private[media_service_pb2.StoredMedia]
    id: strawberry.ID = message_field("media.id")
    url: str = message_field(
        "media.id", "/media/{}".format, description="The path of the original on this server."
    )
    thumbnail_url: str = message_field(
        "media.id",
        "/media/{}/thumbnail".format,
        description="The path of a small JPEG with boxes on this server.",
    )
    poster_url: str = message_field(
        "media.id",
        "/media/{}/poster".format,
        description=f"The path of the picture that shows most on this server. {ON_DEMAND}",
    )
    playable_url: str | None = message_field(
        "media",
        _playable_url,
        description=f"The path on this server of a clip that browsers play. Null for a photo. {ON_DEMAND}",
    )
    kind: MediaKind = message_field("media.type", lambda number: int(is_clip(number)))
    size_bytes: float = message_field("media.size_bytes", float, description="Of the original.")
    duration_seconds: float | None = message_field(
        "media",
        _of_clip(_seconds),
        description="As the container says. Null for a photo, and if it does not say.",
    )
    codec: str | None = message_field(
        "media", _of_clip(attrgetter("video_codec")), description="`h264`, `hevc`, ... Null for a photo."
    )
    frame_rate: float | None = message_field(
        "media",
        _of_clip(lambda clip: round(clip.frame_rate, 3)),
        description="Frames per second on average, as the container says.",
    )
    rotation: int = message_field(
        "media.clip.rotation",
        description="By how many degrees, counter-clockwise, the pictures of a clip are to be turned.",
    )
    container: str | None = message_field(
        "media.type",
        lambda number: container(number) or None,
        description="`MP4`, `Matroska`, ... Null for a photo.",
    )
    has_audio: bool = message_field("media.clip.has_audio")
    captured_at_source: CapturedAtSource = message_field("media.captured_at_source", _source)
    captured_at: Timestamp = message_field(
        "media.captured_at", description="Of a clip, that of its first frame."
    )
    claimed_captured_at: Timestamp | None = message_field(
        "media",
        lambda media: media.claimed_captured_at if media.HasField("claimed_captured_at") else None,
        description="What the camera's clock says, if it is not believed: it is plainly unset, or too far"
        " from the arrival, which counts.",
    )
    detected_at: Timestamp = message_field("detected_at")
    width: int = message_field("media.width", description="In pixels, before rotation.")
    height: int = message_field("media.height", description="In pixels, before rotation.")
    detector: str = message_field(
        "detector", description="The name of the detector and the digest of its weights."
    )

    @strawberry.field
    async def camera(self, info: Info) -> Camera:
        return await load_camera(info, self.message.media.camera_id, self.message.media.camera_name)

    @strawberry.field(description="In order of capture.")
    async def frames(self, info: Info) -> list[Frame]:
        id = self.message.media.id
        return [
            Frame(
                message=frame,
                media_id=id,
                url=f"/media/{id}/frames/{frame.index}",
                thumbnail_url=f"/media/{id}/frames/{frame.index}/thumbnail",
            )
            for frame in await info.context.loaders.frames.load(id)
        ]

    @strawberry.field(description="Best score first; empty if there are none. " + IN_ZONES)
    async def detections(
        self,
        info: Info,
        first: int | None = PAGE,
        after: str | None = None,
        zone_ids: list[strawberry.ID] | None = None,
    ) -> Connection[Detection]:
        id, empty = self.message.media.id, not self.message.detection_count
        loader = info.context.loaders.media_detections
        return await load_detections(info, loader, "media_id", id, first, after, zone_ids, empty=empty)


async def load_detections(
    info: Info,
    loader: DataLoader[DetectionKey, DetectionPage],
    parent: Literal["event_id", "media_id"],
    id: str,
    first: int | None,
    after: str | None,
    zone_ids: list[strawberry.ID] | None,
    *,
    empty: bool = False,
) -> Connection[Detection]:
    """A page of the detections of an event or a media; first pages come from the loader. `empty`: it has
    none, so there is nothing to ask for."""
    size, zones = page_size(first, LARGEST_DETECTION_PAGE), tuple(sorted(zone_ids or ()))
    if zone_ids == []:  # which a request to the store cannot say
        return _connect(DetectionPage())
    if after:
        request = ListDetectionsRequest(page_size=size, page_token=after, zone_ids=zones)
        setattr(request, parent, id)
        return _connect(await call(info.context.siblings.detections.ListDetections, request))
    return _connect(DetectionPage() if empty else await loader.load((id, size, zones)))


def _connect(page: DetectionPage | ListDetectionsResponse) -> Connection[Detection]:
    return connect(Detection, page.detections, page)


async def load_camera(info: Info, id: str, name: str) -> Camera:
    """Loads a camera through the request's loader. If the store does not know it, returns one with `name`,
    which is the camera's name in the event or media."""
    camera = await info.context.loaders.camera.load(id)
    return Camera(message=camera or camera_pb2.Camera(id=id, display_name=name))


async def get_media(info: Info, id: strawberry.ID) -> Media | None:
    stored = await info.context.loaders.media.load(id) if is_uuid(id) else None
    return Media(message=stored) if stored else None


async def list_media(
    info: Info,
    first: int | None = PAGE,
    after: str | None = None,
    camera_ids: list[strawberry.ID] | None = None,
) -> Connection[Media]:
    size = page_size(first)
    if camera_ids == []:  # which a request to the store cannot say
        current_caller().require(READ)
        return connect(Media, [], media_service_pb2.ListMediaResponse())
    request = media_service_pb2.ListMediaRequest(
        camera_ids=camera_ids or [], page_size=size, page_token=after or ""
    )
    response = await call(info.context.siblings.media.ListMedia, request)
    return connect(Media, response.media, response)
