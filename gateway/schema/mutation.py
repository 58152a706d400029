"""The changes."""

import strawberry

from gateway.schema.camera import (
    CameraPayload,
    DeleteCameraPayload,
    create_camera,
    delete_camera,
    update_camera,
)
from gateway.schema.reassessment import ReassessPayload, reassess


@strawberry.type
class Mutation:
    create_camera: CameraPayload = strawberry.mutation(
        resolver=create_camera, description="Makes a camera and its folder."
    )
    update_camera: CameraPayload = strawberry.mutation(resolver=update_camera)
    delete_camera: DeleteCameraPayload = strawberry.mutation(
        resolver=delete_camera,
        description="Its events stay; its folder is ignored until the camera is created again.",
    )
    reassess: ReassessPayload = strawberry.mutation(
        resolver=reassess,
        description="Asks for another judgement of an event, before all others that wait. It becomes the "
        "event's `risk`; the history keeps those of before. A newer request replaces one that waits. One "
        "that failed five times is given up: see `lastFailure`.",
    )
