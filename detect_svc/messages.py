"""Builds the messages for the bus and for gRPC."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from detect_svc.detectors.detector import Detector, detector_id
from lares.detect.v1.detection_pb2 import (
    Detection,
    DetectorModel,
    Frame,
    FrameDetection,
)
from lares.detect.v1.events_pb2 import FrameChoice, MediaDetected
from lares.ingest.v1.events_pb2 import MediaRejected
from lares.ingest.v1.media_pb2 import Media, RejectionReason
from mesh.identity import detection_id, rejection_id
from mesh.problems import Invalid, Problem
from mesh.visible_text import without_addresses

PHOTO_FRAME = 0
REASON_PREFIX = "REJECTION_REASON_"
REASONS = frozenset(RejectionReason.keys())


def detections(media_id: str, findings: Iterable[FrameDetection], detector: str) -> list[Detection]:
    """The id depends on the rank in the raw output, not on the place in `findings`, which may be filtered."""
    return [
        Detection(
            id=detection_id(media_id, PHOTO_FRAME, finding.rank, detector),
            label=finding.label,
            score=finding.score,
            bounding_box=finding.bounding_box,
            frame=PHOTO_FRAME,
        )
        for finding in findings
    ]


def detected(media: Media, frame: Frame, model: DetectorModel) -> MediaDetected:
    """Holds all findings of a photo's frame: store_svc decides which of them count."""
    message = MediaDetected(media=media, detector=model.id, model=model, frames=[frame])
    photo = message.frames[0]
    photo.index = PHOTO_FRAME
    photo.captured_at.CopyFrom(media.captured_at)
    message.detected_at.FromMicroseconds(time.time_ns() // 1000)
    return message


def clip_detected(
    media: Media, frames: Sequence[Frame], model: DetectorModel, choice: FrameChoice
) -> MediaDetected:
    """`frames` are those of a clip, in order of index. They were captured that many ms after its beginning,
    or all of them earlier, if the last one would be later than the clip's arrival."""
    message = MediaDetected(media=media, detector=model.id, model=model, frames=frames, frame_choice=choice)
    begin = media.captured_at.ToDatetime(UTC)
    if frames and media.HasField("ingested_at"):
        end = begin + timedelta(milliseconds=frames[-1].index)
        begin -= max(timedelta(0), end - media.ingested_at.ToDatetime(UTC))
    for frame in message.frames:
        frame.captured_at.FromDatetime(begin + timedelta(milliseconds=frame.index))
    message.detected_at.FromMicroseconds(time.time_ns() // 1000)
    return message


def not_looked_at(media: Media) -> MediaDetected:
    """Of media whose content the store knows: only the state of its file is news."""
    message = MediaDetected(media=media)
    message.detected_at.FromMicroseconds(time.time_ns() // 1000)
    return message


def model_of(detector: Detector) -> DetectorModel:
    return DetectorModel(
        id=detector_id(detector),
        labels=detector.labels,
        threshold=detector.threshold,
        fast_threshold=detector.fast_threshold,
    )


def is_rejection(problem: Problem) -> bool:
    """Whether the photo is at fault, for a reason that RejectionReason names."""
    return isinstance(problem, Invalid) and REASON_PREFIX + problem.reason in REASONS


def rejected(media: Media, reason: str, detail: str) -> MediaRejected:
    """`reason` is the name of a RejectionReason. The rejection of an upload, which has no path, is identified
    by its media id instead."""
    file = media.file if media.HasField("file") else None
    path, size, mtime = (
        (file.path, file.size_bytes, file.mtime_ns) if file else (media.id, media.size_bytes, 0)
    )
    message = MediaRejected(
        rejection_id=rejection_id(media.camera_id, path, size, mtime),
        camera_id=media.camera_id,
        file=file,
        reason=RejectionReason.Value(REASON_PREFIX + reason),
        detail=without_addresses(detail),
        media_id=media.id,
    )
    message.rejected_at.FromDatetime(datetime.now(UTC))
    return message
