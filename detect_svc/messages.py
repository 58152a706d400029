"""What was found, as it is said on the bus and over gRPC."""

from collections.abc import Iterable
from datetime import UTC, datetime

from detect_svc.detectors.detector import Detector, FrameFindings, RawFinding, detector_id
from lares.detect.v1.detection_pb2 import (
    Detection,
    DetectorModel,
    Frame,
    FrameDetection,
)
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from mesh.boxes import bounding_box
from mesh.identity import detection_id, rejection_id
from mesh.problems import Invalid, Problem

PHOTO_FRAME = 0
REASON_PREFIX = "REJECTION_REASON_"
REASONS = frozenset(RejectionReason.keys())


def detections(media_id: str, found: Iterable[RawFinding], detector: str) -> list[Detection]:
    """Each named by its rank in the raw output, so that a least score and chosen labels change no id."""
    return [
        Detection(
            id=detection_id(media_id, PHOTO_FRAME, one.rank, detector),
            label=one.label,
            score=one.score,
            bounding_box=bounding_box(one.box),
            frame=PHOTO_FRAME,
        )
        for one in found
    ]


def detected(media: Media, frame: FrameFindings, detector: Detector) -> MediaDetected:
    """Everything that the detector reports: what counts of it is decided by store_svc."""
    model = DetectorModel(
        id=detector_id(detector),
        labels=detector.labels,
        threshold=detector.threshold,
        fast_threshold=detector.fast_threshold,
    )
    message = MediaDetected(media=media, detector=model.id, model=model, frames=[_photo_frame(media, frame)])
    message.detected_at.FromDatetime(datetime.now(UTC))
    return message


def _photo_frame(media: Media, frame: FrameFindings) -> Frame:
    found = [
        FrameDetection(rank=one.rank, label=one.label, score=one.score, bounding_box=bounding_box(one.box))
        for one in frame.findings
    ]
    return Frame(
        index=PHOTO_FRAME,
        captured_at=media.captured_at,
        width=frame.width,
        height=frame.height,
        detections=found,
    )


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
