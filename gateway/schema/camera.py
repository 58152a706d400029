# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""Cameras and their settings."""

from typing import Any

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.context import Info
from gateway.schema.message_fields import computed_field, message_field, round_float32
from gateway.schema.scene import (
    CameraGround,
    CameraLine,
    CameraMask,
    CameraSizeFilter,
    CameraZone,
    LineInput,
    MaskInput,
    SizeFilterInput,
    ZoneInput,
    size_filter_messages,
    size_filters_of,
)
from lares.scene.v1.scene_pb2 import ZONE_KIND_PUBLIC
from lares.store.v1 import camera_pb2, camera_service_pb2
from mesh.labels import unique_by_canonical
from mesh.problems import Invalid, NotFound
from mesh.rpc import call

LIST_PAGE = 500  # of cameras with as many zones as there can be, a message holds
AT_MOST = "At most 32."
TIME_ZONE = "An IANA name; empty means the setting LARES_TIME_ZONE."


@strawberry.type(description="The least score at which a finding with this label counts.")
class Threshold:
    label: str = strawberry.field(description="A watched class; `*` stands for every other label.")
    score: float = strawberry.field(description="0 to 1.")


@strawberry.type(description="A source of media.")
class Camera:
    message: strawberry.Private[camera_pb2.Camera]
    id: strawberry.ID = message_field("id", description="A slug. It never changes.")
    name: str = message_field("display_name")
    time_zone: str = message_field("time_zone", description=TIME_ZONE)
    enabled: bool = message_field("enabled")

    thresholds: list[Threshold] = message_field(
        "thresholds",
        lambda scores: [
            Threshold(label=label, score=round_float32(score)) for label, score in sorted(scores.items())
        ],
        description="These take precedence over the thresholds in Lares's settings.",
    )
    zones: list[CameraZone] = message_field(
        "zones", list_of=CameraZone, description="The first that contains a foot point counts."
    )
    lines: list[CameraLine] = message_field("lines", list_of=CameraLine)
    masks: list[CameraMask] = message_field("masks", list_of=CameraMask)
    size_filters: list[CameraSizeFilter] = computed_field(size_filters_of)
    ground: CameraGround = message_field("ground")

    @strawberry.field(
        description="One sentence for each zone or line that is probably drawn wrongly, as recent detections "
        "show. They are accepted; what happens in such a zone gives no relief."
    )
    async def warnings(self, info: Info) -> list[str]:
        return await info.context.loaders.warnings.load(self.message.id)


@strawberry.input
class ThresholdInput:
    label: str
    score: float


@strawberry.input
class CreateCameraInput:
    id: strawberry.ID = strawberry.field(description="A slug: `[a-z0-9][a-z0-9_-]{0,62}`.")
    name: str = strawberry.field(default="", description="By default the id.")
    time_zone: str = strawberry.field(default="", description=TIME_ZONE)
    enabled: bool = True
    thresholds: list[ThresholdInput] = strawberry.field(default_factory=list)
    zones: list[ZoneInput] = strawberry.field(default_factory=list, description=AT_MOST)
    lines: list[LineInput] = strawberry.field(default_factory=list, description=AT_MOST)
    masks: list[MaskInput] = strawberry.field(default_factory=list, description=AT_MOST)
    size_filters: list[SizeFilterInput] = strawberry.field(default_factory=list)
    ground: CameraGround = CameraGround.UNSPECIFIED


@strawberry.input(
    description="Settings that are absent or null stay as they are. A list replaces the whole list of before."
)
class UpdateCameraInput:
    id: strawberry.ID
    name: str | None = None
    time_zone: str | None = strawberry.field(default=None, description=TIME_ZONE)
    enabled: bool | None = None
    thresholds: list[ThresholdInput] | None = None
    zones: list[ZoneInput] | None = strawberry.field(default=None, description=AT_MOST)
    lines: list[LineInput] | None = strawberry.field(default=None, description=AT_MOST)
    masks: list[MaskInput] | None = strawberry.field(default=None, description=AT_MOST)
    size_filters: list[SizeFilterInput] | None = None
    ground: CameraGround | None = None


@strawberry.type
class CameraPayload:
    camera: Camera


@strawberry.type
class DeleteCameraPayload:
    id: strawberry.ID


async def get_camera(info: Info, id: strawberry.ID) -> Camera | None:
    if not id:
        return None
    try:
        request = camera_service_pb2.GetCameraRequest(camera_id=id)
        return Camera(message=(await call(info.context.siblings.cameras.GetCamera, request)).camera)
    except NotFound:
        return None


async def list_cameras(info: Info) -> list[Camera]:
    """Returns all cameras, in order of id."""
    cameras: list[Camera] = []
    token = ""
    while True:
        request = camera_service_pb2.ListCamerasRequest(page_size=LIST_PAGE, page_token=token)
        response = await call(info.context.siblings.cameras.ListCameras, request)
        cameras += [Camera(message=camera) for camera in response.cameras]
        token = response.next_page_token
        if not token:
            return cameras


async def list_doubtful_cameras(info: Info) -> list[Camera]:
    """Returns the cameras with warnings, in order of id. Only public zones and lines can give any."""
    cameras = [camera for camera in await list_cameras(info) if _may_have_warnings(camera.message)]
    warnings = await info.context.loaders.warnings.load_many([camera.message.id for camera in cameras])
    return [camera for camera, found in zip(cameras, warnings, strict=True) if found]


def _may_have_warnings(camera: camera_pb2.Camera) -> bool:
    return bool(camera.lines) or any(zone.kind == ZONE_KIND_PUBLIC for zone in camera.zones)


async def create_camera(info: Info, input: CreateCameraInput) -> CameraPayload:
    camera = camera_pb2.Camera(
        id=input.id,
        display_name=input.name or input.id,
        time_zone=input.time_zone,
        enabled=input.enabled,
        thresholds=_thresholds(input.thresholds),
        zones=[zone.message() for zone in input.zones],
        lines=[line.message() for line in input.lines],
        masks=[mask.message() for mask in input.masks],
        size_filters=size_filter_messages(input.size_filters),
        ground=input.ground.value,
    )
    request = camera_service_pb2.CreateCameraRequest(camera=camera)
    response = await call(info.context.siblings.cameras.CreateCamera, request)
    return CameraPayload(camera=Camera(message=response.camera))


async def update_camera(info: Info, input: UpdateCameraInput) -> CameraPayload:
    """Raises Invalid NOTHING_TO_UPDATE or DUPLICATE_LABEL, and what the store raises."""
    settings = given_settings(input)
    if not settings:
        raise Invalid("give at least one setting", "NOTHING_TO_UPDATE")
    request = camera_service_pb2.UpdateCameraRequest(
        camera=camera_pb2.Camera(id=input.id, **settings), update_mask=FieldMask(paths=list(settings))
    )
    response = await call(info.context.siblings.cameras.UpdateCamera, request)
    return CameraPayload(camera=Camera(message=response.camera))


def given_settings(input: UpdateCameraInput) -> dict[str, Any]:
    """Returns the fields of a Camera message that are to change, with their values. Raises Invalid
    DUPLICATE_LABEL."""
    values: dict[str, Any] = {
        "display_name": input.name,
        "time_zone": input.time_zone,
        "enabled": input.enabled,
        "thresholds": None if input.thresholds is None else _thresholds(input.thresholds),
        "zones": None if input.zones is None else [zone.message() for zone in input.zones],
        "lines": None if input.lines is None else [line.message() for line in input.lines],
        "masks": None if input.masks is None else [mask.message() for mask in input.masks],
        "size_filters": None if input.size_filters is None else size_filter_messages(input.size_filters),
        "ground": input.ground.value if input.ground else None,
    }
    return {name: value for name, value in values.items() if value is not None}


async def delete_camera(info: Info, id: strawberry.ID) -> DeleteCameraPayload:
    request = camera_service_pb2.DeleteCameraRequest(camera_id=id)
    await call(info.context.siblings.cameras.DeleteCamera, request)
    return DeleteCameraPayload(id=id)


def _thresholds(given: list[ThresholdInput]) -> dict[str, float]:
    try:
        return unique_by_canonical((threshold.label, threshold.score) for threshold in given)
    except ValueError as error:
        raise Invalid(f"each label may have one threshold only: {error}", "DUPLICATE_LABEL") from None
