# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""Photos that were looked at, and what was found in them."""

from collections.abc import Iterable

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.camera import Camera
from gateway.schema.paging import (
    LARGEST_DETECTION_PAGE,
    PAGE,
    Connection,
    connect,
    page_size,
)
from gateway.schema.reading import fraction, known_form, read
from lares.detect.v1 import detection_pb2
from lares.store.v1 import camera_pb2, media_service_pb2
from lares.store.v1.detection_service_pb2 import (
    DetectionPage,
    ListDetectionsRequest,
    ListDetectionsResponse,
    StoredDetection,
)
from mesh.boxes import edges_of
from mesh.problems import NotFound
from mesh.rpc import call


@strawberry.type(description="Edges in 0..1 of the upright photo.")
class Box:
    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @classmethod
    def of(cls, found: detection_pb2.Detection) -> "Box":
        return cls.within(edges_of(found))

    @classmethod
    def within(cls, edges: Iterable[float]) -> "Box":
        """Of [x_min, y_min, x_max, y_max]."""
        x_min, y_min, x_max, y_max = map(fraction, edges)
        return cls(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


@strawberry.type
class Detection:
    message: strawberry.Private[StoredDetection]
    id: strawberry.ID = read("detection.id")
    label: str = read("detection.label", description="Canonical COCO name.")
    score: float = read("detection.score", fraction, description="0..1.")
    box: Box = read("detection", Box.of)
    captured_at: Timestamp = read("captured_at")

    @strawberry.field
    async def media(self, info: Info) -> "Media":
        stored = await info.context.loaders.media.load(self.message.media_id)
        if stored is None:
            raise NotFound("this photo was deleted", "MEDIA_NOT_FOUND")
        return Media(message=stored)


@strawberry.type
class Media:
    message: strawberry.Private[media_service_pb2.StoredMedia]
    id: strawberry.ID = read("media.id")
    url: str = read("media.id", "/media/{}".format, description="A path on this server: the original.")
    thumbnail_url: str = read(
        "media.id",
        "/media/{}/thumbnail".format,
        description="A path on this server: a small JPEG with boxes.",
    )
    captured_at: Timestamp = read("media.captured_at")
    detected_at: Timestamp = read("detected_at")
    width: int = read("media.width", description="Pixels, before rotation.")
    height: int = read("media.height")
    detector: str = read("detector", description="Name and weights digest.")

    @strawberry.field
    async def camera(self, info: Info) -> Camera:
        return await load_camera(info, self.message.media.camera_id, self.message.media.camera_name)

    @strawberry.field(description="Best score first; empty when nothing was found.")
    async def detections(
        self, info: Info, first: int | None = PAGE, after: str | None = None
    ) -> Connection[Detection]:
        id, size = self.message.media.id, page_size(first, LARGEST_DETECTION_PAGE)
        if after:
            request = ListDetectionsRequest(media_id=id, page_size=size, page_token=after)
            return connect_detections(await call(info.context.siblings.detections.ListDetections, request))
        if not self.message.detection_count:
            return connect(Detection, [], ListDetectionsResponse())
        return connect_detections(await info.context.loaders.media_detections.load((id, size)))


def connect_detections(page: DetectionPage | ListDetectionsResponse) -> Connection[Detection]:
    return connect(Detection, page.detections, page)


async def load_camera(info: Info, id: str, name: str) -> Camera:
    """By way of the request's loader. `name` is what its facts call a camera that the store does not know."""
    camera = await info.context.loaders.camera.load(id)
    return Camera(message=camera or camera_pb2.Camera(id=id, display_name=name))


async def get_media(info: Info, id: strawberry.ID) -> Media | None:
    stored = await info.context.loaders.media.load(id) if known_form(id) else None
    return Media(message=stored) if stored else None


async def list_media(
    info: Info,
    first: int | None = PAGE,
    after: str | None = None,
    camera_ids: list[strawberry.ID] | None = None,
) -> Connection[Media]:
    request = media_service_pb2.ListMediaRequest(
        camera_ids=camera_ids or [], page_size=page_size(first), page_token=after or ""
    )
    answer = await call(info.context.siblings.media.ListMedia, request)
    return connect(Media, answer.media, answer)
