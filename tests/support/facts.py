"""Builds the messages that the other services publish."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from lares.detect.v1.detection_pb2 import BoundingBox, Detection, DetectorModel
from lares.detect.v1.events_pb2 import MediaDetected, MediaRendered, RenderedBlob, RenderFailure
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import AssessmentFailure, EventAssessed
from mesh.delivery import Delivery
from mesh.identity import detection_id, event_id, media_id, rejection_id
from mesh.labels import COCO_LABELS
from store_svc.times import SECOND, micros, moment, stamp

M = TypeVar("M", bound=Message)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DETECTOR = "efficientdet-lite0@1a2b3c4d5e6f"


def at(seconds: float) -> datetime:
    """The time that many seconds after noon."""
    return moment(micros(NOON) + round(seconds * SECOND))


def photo(n: int, camera: str = "front") -> str:
    """The media id of a camera's nth photo."""
    return media_id(camera, f"{n:064x}")


def opened_by(n: int, camera: str = "front") -> str:
    """The id of the event that the camera's nth photo opens."""
    return event_id(photo(n, camera), 0)


def found(n: int, rank: int = 0, camera: str = "front") -> str:
    """The id of a detection in it."""
    return detection_id(photo(n, camera), 0, rank, DETECTOR)


def fingerprint(n: int, camera: str = "front") -> FileFingerprint:
    return FileFingerprint(
        path=f"{camera}/{n:04}.jpg", size_bytes=1000 + n, mtime_ns=n * 10**9, ctime_ns=n * 10**9 + 1, inode=n
    )


def detected(
    n: int, seconds: float, camera: str = "front", labels: Sequence[str] = ("person",), urgent: bool = False
) -> MediaDetected:
    """A camera's nth photo, captured that long after noon, with a detection of each label."""
    message = MediaDetected(detector=DETECTOR, detected_at=stamp(at(seconds + 2)), urgent=urgent)
    media = message.media
    media.id, media.camera_id, media.camera_name, media.sha256 = (
        photo(n, camera),
        camera,
        camera.title(),
        f"{n:064x}",
    )
    media.size_bytes, media.type, media.width, media.height = 1000 + n, 1, 1920, 1080  # type: ignore[assignment]
    media.captured_at.CopyFrom(stamp(at(seconds)))
    media.captured_at_source = 3  # type: ignore[assignment]
    media.ingested_at.CopyFrom(stamp(at(seconds + 1)))
    media.file.CopyFrom(fingerprint(n, camera))
    for rank, label in enumerate(labels):
        id = found(n, rank, camera)
        message.detections.append(Detection(id=id, label=label, score=0.75, box=[0.25, 0.25, 0.5, 0.75]))
    return message


def rejected(n: int, camera: str = "front") -> MediaRejected:
    file = fingerprint(n, camera)
    return MediaRejected(
        rejection_id=rejection_id(camera, file.path, file.size_bytes, file.mtime_ns),
        camera_id=camera,
        file=file,
        reason=2,  # type: ignore[arg-type]
        detail="The file ends in the middle.",
        rejected_at=stamp(at(n)),
    )


def assessed(
    event: str, id: str, revision: int, digest: str, score: int = 40, severity: int = 2, request: str = ""
) -> EventAssessed:
    assessment = Assessment(
        id=id,
        event_id=event,
        evidence_revision=revision,
        evidence_digest=digest,
        score=score,
        severity=severity,  # type: ignore[arg-type]
        summary="A person at the door.",
        reasoner="rules/v1",
        request_id=request,
        assessed_at=stamp(at(60)),
    )
    return EventAssessed(
        event_id=event,
        camera_id="front",
        evidence_revision=revision,
        evidence_digest=digest,
        assessment=assessment,
    )


def failed(event: str, id: str, revision: int, digest: str, given_up: str = "") -> EventAssessed:
    failure = AssessmentFailure(
        id=id,
        reason="BAD_ANSWER",
        detail="no JSON",
        failed_at=stamp(at(60)),
        given_up_request_id=given_up,
    )
    return EventAssessed(
        event_id=event, camera_id="front", evidence_revision=revision, evidence_digest=digest, failure=failure
    )


def deliveries(topic: str, *messages: M, first: int = 0, partition: int = 0) -> list[Delivery[M]]:
    """As a stream delivers them: one partition, offsets from `first`."""
    fields: dict[str, Any] = {
        "key": "",
        "topic": topic,
        "partition": partition,
        "timestamp": NOON,
        "headers": {},
    }
    return [Delivery(message=m, offset=n, **fields) for n, m in enumerate(messages, first)]


MODEL = DetectorModel(id=DETECTOR, labels=COCO_LABELS, threshold=0.5, fast_threshold=0.6)


def reported(
    n: int,
    seconds: float,
    *found: tuple[str, float],
    camera: str = "front",
    model: DetectorModel = MODEL,
) -> MediaDetected:
    """A camera's nth photo, captured that long after noon; the detector reports these labels and scores."""
    message = detected(n, seconds, camera, labels=())
    message.detector = model.id
    message.model.CopyFrom(model)
    frame = message.frames.add(width=1920, height=1080)
    frame.captured_at.CopyFrom(message.media.captured_at)
    for rank, (label, score) in enumerate(found):
        one = frame.detections.add(rank=rank, label=label, score=score)
        box = one.bounding_box
        box.x_min, box.y_min, box.x_max, box.y_max = 0.25, 0.25, 0.5, 0.75
    return message


def clip_reported(
    n: int, seconds: float, *frames: tuple[int, float], camera: str = "front", model: DetectorModel = MODEL
) -> MediaDetected:
    """A camera's nth media, a clip that begins that long after noon. Each frame has an index and the score of
    the person in it; 0 for nobody."""
    message = reported(n, seconds, camera=camera, model=model)
    message.media.type = 3  # type: ignore[assignment]
    del message.frames[:]
    for index, score in frames:
        frame = message.frames.add(index=index, width=1920, height=1080)
        frame.captured_at.CopyFrom(stamp(at(seconds + index / 1000)))
        if score:
            one = frame.detections.add(rank=0, label="person", score=score)
            one.bounding_box.CopyFrom(BoundingBox(x_min=0.25, y_min=0.25, x_max=0.5, y_max=0.75))
    return message


def rendered(rendition_id: str, sha256: str, size: int, *parts: tuple[int, int, int]) -> MediaRendered:
    """`parts` are frame, offset and size."""
    blob = RenderedBlob(sha256=sha256, size_bytes=size, content_type="image/jpeg")
    for frame, offset, length in parts:
        blob.parts.add(frame=frame, offset=offset, size_bytes=length)
    return MediaRendered(rendition_id=rendition_id, camera_id="front", rendered_at=stamp(at(60)), blob=blob)


def render_failed(rendition_id: str, id: str, *, permanent: bool = False) -> MediaRendered:
    failure = RenderFailure(id=id, reason="CORRUPT", detail="The clip is damaged.", permanent=permanent)
    return MediaRendered(
        rendition_id=rendition_id, camera_id="front", rendered_at=stamp(at(60)), failure=failure
    )
