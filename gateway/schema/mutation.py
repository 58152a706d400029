"""The root type of mutations."""

import strawberry

from gateway.schema.camera import (
    CameraPayload,
    DeleteCameraPayload,
    create_camera,
    delete_camera,
    update_camera,
)
from gateway.schema.feedback import EventFeedbackPayload, event_feedback
from gateway.schema.reassessment import ReassessEventPayload, reassess_event


@strawberry.type
class Mutation:
    create_camera: CameraPayload = strawberry.mutation(
        resolver=create_camera, description="Creates a camera and its folder."
    )
    update_camera: CameraPayload = strawberry.mutation(resolver=update_camera)
    delete_camera: DeleteCameraPayload = strawberry.mutation(
        resolver=delete_camera,
        description="Deletes a camera. Its events stay; its folder is ignored until the camera is created "
        "again.",
    )
    reassess_event: ReassessEventPayload = strawberry.mutation(
        resolver=reassess_event,
        description="Requests another assessment of an event, before all events that wait. It becomes the "
        "event's `assessment`, and `assessments` keeps the earlier ones. A newer request replaces one that "
        "still waits. A request that has failed five times is given up; see `lastFailure`.",
    )
    event_feedback: EventFeedbackPayload = strawberry.mutation(
        resolver=event_feedback,
        description="Says whether an assessment was right. It replaces what was said of that assessment "
        "before, and changes no score.",
    )
