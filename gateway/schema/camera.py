# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""Cameras: what is set, and how to set it."""

from typing import Any

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.context import Info
from gateway.schema.reading import fraction, read
from lares.store.v1 import camera_pb2, camera_service_pb2
from mesh.problems import Invalid, NotFound
from mesh.rpc import call

LIST_PAGE = 1000


@strawberry.type
class Threshold:
    label: str = strawberry.field(description="A COCO name; `*` means every other label.")
    score: float = strawberry.field(description="The least score that counts, 0..1.")


@strawberry.type
class Camera:
    message: strawberry.Private[camera_pb2.Camera]
    id: strawberry.ID = read("id", description="Its slug; never changes.")
    name: str = read("display_name")
    time_zone: str = read("time_zone", description="IANA name; empty means the host's.")
    enabled: bool = read("enabled")

    @strawberry.field(description="Win over the global ones.")
    def thresholds(self) -> list[Threshold]:
        thresholds = sorted(self.message.thresholds.items())
        return [Threshold(label=label, score=fraction(score)) for label, score in thresholds]


@strawberry.input
class ThresholdInput:
    label: str
    score: float


@strawberry.input
class CreateCameraInput:
    id: strawberry.ID = strawberry.field(description="A slug: `[a-z0-9][a-z0-9_-]{0,62}`.")
    name: str = strawberry.field(default="", description="By default the id.")
    time_zone: str = ""
    enabled: bool = True
    thresholds: list[ThresholdInput] = strawberry.field(default_factory=list)


@strawberry.input(description="What is left out, or null, stays as it is.")
class UpdateCameraInput:
    id: strawberry.ID
    name: str | None = None
    time_zone: str | None = None
    enabled: bool | None = None
    thresholds: list[ThresholdInput] | None = None


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
    """All of them, by id."""
    cameras: list[Camera] = []
    token = ""
    while True:
        request = camera_service_pb2.ListCamerasRequest(page_size=LIST_PAGE, page_token=token)
        answer = await call(info.context.siblings.cameras.ListCameras, request)
        cameras += [Camera(message=camera) for camera in answer.cameras]
        token = answer.next_page_token
        if not token:
            return cameras


async def create_camera(info: Info, input: CreateCameraInput) -> CameraPayload:
    camera = camera_pb2.Camera(
        id=input.id,
        display_name=input.name or input.id,
        time_zone=input.time_zone,
        enabled=input.enabled,
        thresholds=_thresholds(input.thresholds),
    )
    request = camera_service_pb2.CreateCameraRequest(camera=camera)
    answer = await call(info.context.siblings.cameras.CreateCamera, request)
    return CameraPayload(camera=Camera(message=answer.camera))


async def update_camera(info: Info, input: UpdateCameraInput) -> CameraPayload:
    given = given_settings(input)
    if not given:
        raise Invalid("give at least one value", "NOTHING_TO_UPDATE")
    request = camera_service_pb2.UpdateCameraRequest(
        camera=camera_pb2.Camera(id=input.id, **given), update_mask=FieldMask(paths=list(given))
    )
    answer = await call(info.context.siblings.cameras.UpdateCamera, request)
    return CameraPayload(camera=Camera(message=answer.camera))


def given_settings(input: UpdateCameraInput) -> dict[str, Any]:
    """The fields of the message that are to change."""
    values: dict[str, Any] = {
        "display_name": input.name,
        "time_zone": input.time_zone,
        "enabled": input.enabled,
        "thresholds": None if input.thresholds is None else _thresholds(input.thresholds),
    }
    return {name: value for name, value in values.items() if value is not None}


async def delete_camera(info: Info, id: strawberry.ID) -> DeleteCameraPayload:
    request = camera_service_pb2.DeleteCameraRequest(camera_id=id)
    await call(info.context.siblings.cameras.DeleteCamera, request)
    return DeleteCameraPayload(id=id)


def _thresholds(given: list[ThresholdInput]) -> dict[str, float]:
    thresholds = {threshold.label: threshold.score for threshold in given}
    if len(thresholds) < len(given):
        raise Invalid("a label has two thresholds", "DUPLICATE_LABEL")
    return thresholds
