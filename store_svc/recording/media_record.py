"""Reads MediaDetected records, and checks them: a bad one must become a dead letter alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import NamedTuple
from uuid import UUID

from lares.detect.v1.detection_pb2 import Detection, DetectorModel, Frame, FrameDetection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.store.v1.stored_clip_pb2 import StoredClip
from mesh.boxes import edges_of
from store_svc.ids import SLUG, file_id
from store_svc.recording.record_fields import bad_record, read_time, read_uuid
from store_svc.times import moment


class DetectionRecord(NamedTuple):
    """A detection that counts; `rank` is None where detect_svc had filtered the findings itself."""

    id: UUID
    frame: int
    label: str
    score: float
    box: list[float]
    rank: int | None


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame as detect_svc reports it, captured `at`, in microseconds. `findings` are the detector's raw
    output in order of rank, which were checked. A record of an earlier version of detect_svc has `filtered`
    instead: what that version kept, all of which counts."""

    index: int
    at: int
    width: int
    height: int
    motion_significance: float
    findings: Sequence[FrameDetection] = ()
    filtered: tuple[DetectionRecord, ...] = ()


class MediaRecord(NamedTuple):
    """One MediaDetected, `message`, that was checked; its media was captured `at`, in microseconds.

    `model` is the detector's, or None where detect_svc had filtered the findings itself; `urgent` says that
    such a record has something for the fast path. `known`: nothing was detected, because ingest_svc has
    learned from the store that it knows the content. `row` holds the columns of the table `media` that the
    message gives, and `file` the id and path for the table `files`, if the media is of a file.
    """

    message: MediaDetected
    media_id: UUID
    camera_id: str
    camera_name: str
    at: int
    partition: int
    model: DetectorModel | None
    urgent: bool
    known: bool
    frames: tuple[FrameRecord, ...]
    row: Mapping[str, object]
    file: tuple[UUID, str] | None
    traceparent: str | None = None


def count_findings(message: MediaDetected) -> int:
    return sum(len(frame.detections) for frame in message.frames)


def read_media(message: MediaDetected, partition: int, traceparent: str | None = None) -> MediaRecord:
    """`traceparent` is that of the record, if its trace is recorded. Raises Invalid (BAD_RECORD)."""
    media = message.media
    if not SLUG.fullmatch(media.camera_id):
        raise bad_record(f"{media.camera_id!r} is not a camera id")
    at = read_time(media.captured_at, "captured_at")
    media_id = read_uuid(media.id, "media.id")
    file = media.file if media.HasField("file") else None
    known = media.known_content and not message.detector
    filtered = not message.frames and not known
    return MediaRecord(
        message=message,
        media_id=media_id,
        camera_id=media.camera_id,
        camera_name=media.camera_name,
        at=at,
        partition=partition,
        model=_model(message) if message.frames else None,
        urgent=filtered and message.urgent,
        known=known,
        frames=_filtered_frames(message, at) if filtered else _frames(message.frames),
        row={
            "id": media_id,
            "camera_id": media.camera_id,
            "camera_name": media.camera_name,
            "sha256": media.sha256,
            "size_bytes": media.size_bytes,
            "type": media.type,
            "width": media.width,
            "height": media.height,
            "captured_at": moment(at),
            "captured_at_source": media.captured_at_source,
            "claimed_captured_at": moment(read_time(media.claimed_captured_at, "claimed_captured_at"))
            if media.HasField("claimed_captured_at")
            else None,
            "ingested_at": moment(read_time(media.ingested_at, "ingested_at")),
            "detected_at": moment(read_time(message.detected_at, "detected_at")),
            "detector": message.detector,
            "path": file.path if file else None,
            "file_size_bytes": file.size_bytes if file else None,
            "mtime_ns": file.mtime_ns if file else None,
            "ctime_ns": file.ctime_ns if file else None,
            "inode": file.inode if file else None,
            "clip": _clip(message),
        },
        file=(file_id(file), file.path) if file else None,
        traceparent=traceparent,
    )


def _clip(message: MediaDetected) -> bytes | None:
    if not message.media.HasField("clip"):
        return None
    clip = StoredClip(clip=message.media.clip)
    if message.HasField("frame_choice"):
        clip.frame_choice.CopyFrom(message.frame_choice)
    return clip.SerializeToString()


def _model(message: MediaDetected) -> DetectorModel:
    model = message.model
    if not model.id or model.id != message.detector:
        raise bad_record(f"the model {model.id!r} is not the detector {message.detector!r}")
    if not 0 <= model.threshold <= 1 or not 0 <= model.fast_threshold <= 1:
        raise bad_record(f"the thresholds of {model.id} lie outside 0..1")
    return model


def _frames(frames: Sequence[Frame]) -> tuple[FrameRecord, ...]:
    arrived = tuple(map(_frame, frames))
    if any(one.index >= other.index for one, other in pairwise(arrived)):
        raise bad_record("the frames are not in the order of their indexes")
    return arrived


def _frame(frame: Frame) -> FrameRecord:
    if frame.index < 0 or not 0 <= frame.motion_significance <= 1:
        raise bad_record(f"frame {frame.index} has a negative index, or a motion significance outside 0..1")
    if not frame.HasField("captured_at"):
        raise bad_record(f"frame {frame.index} has no capture time")
    _check_findings(frame)
    return FrameRecord(
        index=frame.index,
        at=read_time(frame.captured_at, "frame.captured_at"),
        width=frame.width,
        height=frame.height,
        motion_significance=frame.motion_significance,
        findings=frame.detections,
    )


def _check_findings(frame: Frame) -> None:
    """Reads each field once: this runs for every finding of every photo."""
    last_rank = -1
    for found in frame.detections:
        rank, score, box = found.rank, found.score, found.bounding_box
        x_max = box.x_max
        if not found.label or not 0 <= score <= 1 or rank < 0:
            raise bad_record(f"detection {rank} has no label, a negative rank, or a score outside 0..1")
        # A box with an edge that is not 0 is set.
        if not isfinite(box.x_min + box.y_min + x_max + box.y_max) or not (
            x_max or found.HasField("bounding_box")
        ):
            raise bad_record(f"detection {rank} has no bounding box of finite numbers")
        if rank <= last_rank:
            raise bad_record(f"the detections of frame {frame.index} are not in the order of their ranks")
        last_rank = rank


def _filtered_frames(message: MediaDetected, at: int) -> tuple[FrameRecord, ...]:
    """The frames of a record of an earlier version, which knew photos only: frame 0, even if it is empty."""
    frames: dict[int, list[DetectionRecord]] = {} if message.detections else {0: []}
    for detection in message.detections:
        row = _detection(detection)
        frames.setdefault(row.frame, []).append(row)
    media = message.media
    return tuple(
        FrameRecord(index, at, media.width, media.height, 0.0, filtered=tuple(rows))
        for index, rows in sorted(frames.items())
    )


def _detection(detection: Detection) -> DetectionRecord:
    box, label, score = edges_of(detection), detection.label, detection.score
    if not label or not 0 <= score <= 1:
        raise bad_record(f"detection {detection.id} has no label, or a score outside 0..1")
    if len(box) != 4 or not all(map(isfinite, box)):
        raise bad_record(f"detection {detection.id} has no box of four finite numbers")
    id = read_uuid(detection.id, "detection.id")
    return DetectionRecord(id, detection.frame, label, score, box, None)
