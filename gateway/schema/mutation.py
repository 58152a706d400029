"""The changes."""

import strawberry

from gateway.schema.camera import (
    CameraPayload,
    DeleteCameraPayload,
    create_camera,
    delete_camera,
    update_camera,
)
from gateway.schema.reassessment import ReassessEventPayload, reassess_event


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
    reassess_event: ReassessEventPayload = strawberry.mutation(
        resolver=reassess_event,
        description="Asks for another judgement of an event, before all others that wait. It becomes the "
        "event's `assessment`; the history keeps those of before. A newer request replaces one that waits. "
        "One that failed five times is given up: see `lastFailure`.",
    )
