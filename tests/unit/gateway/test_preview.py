"""previewPolicy: the request to the store, and the form of its response."""

from typing import Any

from lares.detect.v1.detection_pb2 import BoundingBox, FrameDetection
from lares.store.v1 import camera_service_pb2 as pb
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import NOON

QUERY = """query($input: UpdateCameraInput!, $frames: Int) { previewPolicy(input: $input, frames: $frames) {
  currentPolicyDigest proposedPolicyDigest
  frames { mediaId index capturedAt detections { rank label score recorded proposed
    box { xMin yMin xMax yMax } } } } }"""


async def test_a_preview_of_other_thresholds(gateway: Gateway) -> None:
    box = BoundingBox(x_min=0.1, y_min=0.2, x_max=0.3, y_max=0.4)
    gateway.store.add_camera("garden")
    frame = pb.FramePreview(
        media_id="m",
        index=2,
        detections=[
            pb.DetectionPreview(
                detection=FrameDetection(rank=3, label="dog", score=0.4, bounding_box=box),
                recorded=pb.POLICY_DECISION_BELOW_THRESHOLD,
                proposed=pb.POLICY_DECISION_KEPT,
            )
        ],
    )
    frame.captured_at.FromDatetime(NOON)
    gateway.store.preview = pb.PreviewPolicyResponse(
        frames=[frame], current_policy_digest="ab", proposed_policy_digest="cd"
    )
    thresholds = [{"label": "dog", "score": 0.375}]
    response = await gateway.ask(QUERY, input={"id": "garden", "thresholds": thresholds}, frames=7)
    assert response["previewPolicy"] == {
        "currentPolicyDigest": "ab",
        "proposedPolicyDigest": "cd",
        "frames": [
            {
                "mediaId": "m",
                "index": 2,
                "capturedAt": "2026-11-21T12:00:00+00:00",
                "detections": [
                    {
                        "rank": 3,
                        "label": "dog",
                        "score": 0.4,
                        "recorded": "BELOW_THRESHOLD",
                        "proposed": "KEPT",
                        "box": {"xMin": 0.1, "yMin": 0.2, "xMax": 0.3, "yMax": 0.4},
                    }
                ],
            }
        ],
    }
    request: Any = gateway.store.requests[-1]
    assert (request.camera.id, dict(request.camera.thresholds)) == ("garden", {"dog": 0.375})
    assert (list(request.update_mask.paths), request.max_frames) == (["thresholds"], 7)


async def test_a_preview_may_propose_nothing(gateway: Gateway) -> None:
    gateway.store.add_camera("garden")
    await gateway.ask(QUERY, input={"id": "garden"})
    request: Any = gateway.store.requests[-1]
    assert (list(request.update_mask.paths), request.max_frames) == ([], 0)
    assert not request.camera.thresholds
