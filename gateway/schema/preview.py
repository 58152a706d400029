# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""What the watch policy decides, and what it would decide with another configuration of a camera."""

from enum import Enum

import strawberry
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.camera import UpdateCameraInput, given_settings
from gateway.schema.media import Box
from gateway.schema.reading import fraction, read
from lares.store.v1 import camera_pb2, camera_service_pb2
from mesh.boxes import edges
from mesh.rpc import call


@strawberry.enum(description="Why a finding of the detector counts, or does not.")
class PolicyDecision(Enum):
    KEPT = camera_service_pb2.POLICY_DECISION_KEPT
    NOT_WATCHED = camera_service_pb2.POLICY_DECISION_NOT_WATCHED
    BELOW_THRESHOLD = camera_service_pb2.POLICY_DECISION_BELOW_THRESHOLD
    SIZE = camera_service_pb2.POLICY_DECISION_SIZE
    MASKED = camera_service_pb2.POLICY_DECISION_MASKED


@strawberry.type(description="One object in the detector's raw output, and what became of it.")
class DetectionPreview:
    message: strawberry.Private[camera_service_pb2.DetectionPreview]
    rank: int = read("detection.rank", description="Its place in the raw output, from 0.")
    label: str = read("detection.label", description="Canonical COCO name.")
    score: float = read("detection.score", fraction, description="0..1.")
    recorded: PolicyDecision = read("recorded", description="As decided when it was recorded.")
    proposed: PolicyDecision = read("proposed", description="As the proposed configuration decides.")

    @strawberry.field
    def box(self) -> Box:
        return Box.within(edges(self.message.detection.bounding_box))


@strawberry.type
class FramePreview:
    message: strawberry.Private[camera_service_pb2.FramePreview]
    media_id: strawberry.ID = read("media_id")
    index: int = read("index", description="0 for a photo.")
    captured_at: Timestamp = read("captured_at")

    @strawberry.field(description="In order of rank.")
    def detections(self) -> list[DetectionPreview]:
        return [DetectionPreview(message=found) for found in self.message.detections]


@strawberry.type(description="What would count of recent frames with another configuration of their camera.")
class PolicyPreview:
    message: strawberry.Private[camera_service_pb2.PreviewPolicyResponse]
    current_policy_digest: str = read(
        "current_policy_digest", description="Of the policy that decided about the newest of these frames."
    )
    proposed_policy_digest: str = read(
        "proposed_policy_digest", description="Of the proposed one; the same digest decides alike."
    )

    @strawberry.field(description="Newest capture first; those that earlier versions recorded are left out.")
    def frames(self) -> list[FramePreview]:
        return [FramePreview(message=frame) for frame in self.message.frames]


async def preview_policy(info: Info, input: UpdateCameraInput, frames: int | None = None) -> PolicyPreview:
    """Of the newest 20 frames, or as many as are asked for."""
    given = given_settings(input)
    request = camera_service_pb2.PreviewPolicyRequest(
        camera=camera_pb2.Camera(id=input.id, **given),
        update_mask=FieldMask(paths=list(given)),
        max_frames=frames or 0,
    )
    return PolicyPreview(message=await call(info.context.siblings.cameras.PreviewPolicy, request))


async def why_unwatched(info: Info) -> str | None:
    request = camera_service_pb2.GetWatchPolicyRequest()
    return (await call(info.context.siblings.cameras.GetWatchPolicy, request)).problem or None
