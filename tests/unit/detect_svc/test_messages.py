"""The published message of a photo."""

from hypothesis import given
from hypothesis import strategies as some

from detect_svc.detectors.frame_message import Finding, frame_message
from detect_svc.messages import detected, model_of
from lares.detect.v1.detection_pb2 import BoundingBox, DetectorModel, Frame, FrameDetection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import Media
from tests.support.detectors import FakeDetector

edges = some.one_of(some.just(0.0), some.floats(0, 1))
findings = some.tuples(
    some.sampled_from(["person", "dog", ""]), edges, some.tuples(edges, edges, edges, edges)
)


@given(some.lists(findings, max_size=5), some.integers(0, 2**31 - 1), some.none() | some.integers(0, 2**32))
def test_the_message_is_the_one_that_is_constructed_field_by_field(
    found: list[Finding], width: int, captured_at: int | None
) -> None:
    """The quicker ways set every field, also one whose value is the default."""
    media, detector = Media(id="a", camera_id="door"), FakeDetector()
    if captured_at is not None:
        media.captured_at.FromSeconds(captured_at)
    name = f"{detector.name}@{detector.digest[:12]}"
    expected = MediaDetected(
        media=media,
        detector=name,
        model=DetectorModel(
            id=name,
            labels=detector.labels,
            threshold=detector.threshold,
            fast_threshold=detector.fast_threshold,
        ),
        frames=[
            Frame(
                index=0,
                captured_at=media.captured_at,
                width=width,
                height=3,
                detections=[
                    FrameDetection(
                        rank=rank,
                        label=label,
                        score=score,
                        bounding_box=BoundingBox(x_min=box[0], y_min=box[1], x_max=box[2], y_max=box[3]),
                    )
                    for rank, (label, score, box) in enumerate(found)
                ],
            )
        ],
    )
    message = detected(media, frame_message(width, 3, found), model_of(detector))
    assert message.detected_at.ToNanoseconds() > 0
    message.ClearField("detected_at")
    assert message.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
