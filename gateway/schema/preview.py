# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What the watch policy has decided, and what it would decide with other settings of a camera."""

from enum import Enum

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.camera import UpdateCameraInput, given_settings
from gateway.schema.media import Box
from gateway.schema.message_fields import message_field, round_float32, to_list
from lares.store.v1 import camera_pb2, camera_service_pb2
from mesh.boxes import edges
from mesh.rpc import call


@strawberry.enum(description="Whether a finding of the detector counts, or why it does not.")
class PolicyDecision(Enum):
    KEPT = camera_service_pb2.POLICY_DECISION_KEPT
    NOT_WATCHED = camera_service_pb2.POLICY_DECISION_NOT_WATCHED
    BELOW_THRESHOLD = camera_service_pb2.POLICY_DECISION_BELOW_THRESHOLD
    SIZE = camera_service_pb2.POLICY_DECISION_SIZE
    MASKED = camera_service_pb2.POLICY_DECISION_MASKED


@strawberry.type(description="One finding of the detector, and the decisions about it.")
class DetectionPreview:
    message: strawberry.Private[camera_service_pb2.DetectionPreview]
    rank: int = message_field(
        "detection.rank", description="Its place in the detector's output for the frame, from 0."
    )
    label: str = message_field("detection.label", description="A COCO class name.")
    score: float = message_field("detection.score", round_float32, description="0 to 1.")
    recorded: PolicyDecision = message_field(
        "recorded", description="The decision that was made when the media was recorded."
    )
    proposed: PolicyDecision = message_field(
        "proposed", description="The decision that the proposed settings lead to."
    )

    zones: list[strawberry.ID] = message_field(
        "zone_ids",
        to_list,
        description="The ids of the proposed zones that its foot point is in, if it is kept.",
    )
    box: Box = message_field("detection.bounding_box", lambda box: Box.of_edges(edges(box)))


@strawberry.type
class FramePreview:
    message: strawberry.Private[camera_service_pb2.FramePreview]
    media_id: strawberry.ID = message_field("media_id")
    index: int = message_field("index", description="0 for a photo.")
    captured_at: Timestamp = message_field("captured_at")

    detections: list[DetectionPreview] = message_field(
        "detections", list_of=DetectionPreview, description="In order of rank."
    )


@strawberry.type(description="Which findings in a camera's recent frames would count with other settings.")
class PolicyPreview:
    message: strawberry.Private[camera_service_pb2.PreviewPolicyResponse]
    current_policy_digest: str = message_field(
        "current_policy_digest",
        description="Identifies the policy that decided about the newest of these frames.",
    )
    proposed_policy_digest: str = message_field(
        "proposed_policy_digest",
        description="Identifies the proposed policy. Policies with an equal digest decide alike.",
    )

    frames: list[FramePreview] = message_field(
        "frames",
        list_of=FramePreview,
        description="In order of capture, newest first. Frames recorded by versions of Lares that did not "
        "keep the detector's output are left out.",
    )


async def preview_policy(info: Info, input: UpdateCameraInput, frames: int | None = None) -> PolicyPreview:
    settings = given_settings(input)
    request = camera_service_pb2.PreviewPolicyRequest(
        camera=camera_pb2.Camera(id=input.id, **settings),
        update_mask=FieldMask(paths=list(settings)),
        max_frames=frames or 0,
    )
    return PolicyPreview(message=await call(info.context.siblings.cameras.PreviewPolicy, request))


async def read_watch_problem(info: Info) -> str | None:
    request = camera_service_pb2.GetWatchPolicyRequest()
    return (await call(info.context.siblings.cameras.GetWatchPolicy, request)).problem or None
