"""What was found, as it is said on the bus and over gRPC."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from detect_svc.detector import Found
from lares.detect.v1.detection_pb2 import Detection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from lares.store.v1.events_pb2 import CameraConfigured
from mesh.identity import detection_id, rejection_id
from mesh.problems import Invalid, Problem

PHOTO_FRAME = 0
REASON_PREFIX = "REJECTION_REASON_"
REASONS = frozenset(RejectionReason.keys())


def detections(media_id: str, found: Iterable[Found], detector: str) -> list[Detection]:
    """Each named by its rank in the raw output, so that thresholds and watched classes change no id."""
    return [
        Detection(
            id=detection_id(media_id, PHOTO_FRAME, one.rank, detector),
            label=one.label,
            score=one.score,
            box=one.box,
            frame=PHOTO_FRAME,
        )
        for one in found
    ]


def detected(media: Media, kept: Iterable[Found], detector: str, *, urgent: bool) -> MediaDetected:
    message = MediaDetected(
        media=media, detections=detections(media.id, kept, detector), detector=detector, urgent=urgent
    )
    message.detected_at.FromDatetime(datetime.now(UTC))
    return message


def is_rejection(problem: Problem) -> bool:
    """Whether the photo is at fault, in a way that has a name in the contract."""
    return isinstance(problem, Invalid) and REASON_PREFIX + problem.reason in REASONS


def rejected(media: Media, reason: str, detail: str) -> MediaRejected:
    """`reason` is the name of a RejectionReason. An upload has no path: its media id stands for one."""
    file = media.file if media.HasField("file") else None
    path, size, mtime = (
        (file.path, file.size_bytes, file.mtime_ns) if file else (media.id, media.size_bytes, 0)
    )
    message = MediaRejected(
        rejection_id=rejection_id(media.camera_id, path, size, mtime),
        camera_id=media.camera_id,
        file=file,
        reason=RejectionReason.Value(REASON_PREFIX + reason),
        detail=detail,
        media_id=media.id,
    )
    message.rejected_at.FromDatetime(datetime.now(UTC))
    return message


def own_thresholds(configured: CameraConfigured | None) -> Mapping[str, float]:
    """A camera's least scores by label; none where it has no configuration, or none any more."""
    return {} if configured is None or configured.deleted else configured.camera.thresholds
