"""Records of the log as the store takes them: checked, since a broken one must be buried alone."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detection_pb2 import Detection, DetectorModel, Frame, FrameDetection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import FileFingerprint
from mesh import times
from mesh.boxes import edges, edges_of
from mesh.problems import Invalid
from store_svc.domain.watch_policy import Finding
from store_svc.files import file_id
from store_svc.ids import parse_uuid
from store_svc.times import SECOND, micros, moment

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
EARLIEST, LATEST = micros(times.EARLIEST), micros(times.LATEST)

# id, frame, label, score, box, rank; no rank where the writer filtered.
DetectionRow: TypeAlias = tuple[UUID, int, str, float, list[float], int | None]


@dataclass(frozen=True, slots=True)
class ArrivedFrame:
    """One frame as detect_svc reports it. `at` is its time of capture in microseconds. `findings` are the
    detector's raw output, in order of rank, as `raw` has them; or `filtered` is what an earlier version of
    detect_svc kept of it, all of which counts."""

    index: int
    at: int
    width: int
    height: int
    motion: float
    findings: tuple[Finding, ...] = ()
    raw: Sequence[FrameDetection] = ()
    filtered: tuple[DetectionRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One MediaDetected, `message`. `model` is the one that looked, or None where the writer filtered by
    itself; then `urgent` says that it found something for the fast path. `row` is the media's row from
    camera_name to detector, `file_row` from path to inode, `file` the one in `files`, if any."""

    message: MediaDetected
    media_id: UUID
    camera_id: str
    camera_name: str
    partition: int
    model: DetectorModel | None
    urgent: bool
    frames: tuple[ArrivedFrame, ...]
    row: tuple[object, ...]
    file_row: tuple[object, ...]
    file: tuple[UUID, str] | None
    traceparent: str | None = None


def arrival(message: MediaDetected, partition: int, traceparent: str | None = None) -> Arrival:
    """`traceparent`: of the record, if its trace is recorded. Raises Invalid (BAD_RECORD)."""
    media = message.media
    if not SLUG.fullmatch(media.camera_id):
        raise broken(f"{media.camera_id!r} is no camera id")
    at = time(media.captured_at, "captured_at")
    file = media.file if media.HasField("file") else None
    filtered = not message.frames
    return Arrival(
        message=message,
        media_id=uuid(media.id, "media.id"),
        camera_id=media.camera_id,
        camera_name=media.camera_name,
        partition=partition,
        model=None if filtered else _model(message),
        urgent=filtered and message.urgent,
        frames=_filtered_frames(message, at) if filtered else _frames(message.frames),
        row=(
            media.camera_name,
            media.sha256,
            media.size_bytes,
            media.type,
            media.width,
            media.height,
            moment(at),
            media.captured_at_source,
            moment(time(media.ingested_at, "ingested_at")),
            moment(time(message.detected_at, "detected_at")),
            message.detector,
        ),
        file_row=fingerprint(file),
        file=(file_id(file), file.path) if file else None,
        traceparent=traceparent,
    )


def _model(message: MediaDetected) -> DetectorModel:
    model = message.model
    if not model.id or model.id != message.detector:
        raise broken(f"the model {model.id!r} is not the detector {message.detector!r}")
    if not 0 <= model.threshold <= 1 or not 0 <= model.fast_threshold <= 1:
        raise broken(f"the thresholds of {model.id} lie outside 0..1")
    return model


def _frames(frames: Sequence[Frame]) -> tuple[ArrivedFrame, ...]:
    arrived = tuple(map(_frame, frames))
    if any(one.index >= other.index for one, other in pairwise(arrived)):
        raise broken("frames are not in the order of their indexes")
    return arrived


def _frame(frame: Frame) -> ArrivedFrame:
    if frame.index < 0 or not 0 <= frame.motion_significance <= 1:
        raise broken(f"frame {frame.index} has no index from 0, or a motion outside 0..1")
    if not frame.HasField("captured_at"):
        raise broken(f"frame {frame.index} has no time of capture")
    findings = tuple(map(_finding, frame.detections))
    if any(one.rank >= other.rank for one, other in pairwise(findings)):
        raise broken(f"the detections of frame {frame.index} are not in the order of their ranks")
    return ArrivedFrame(
        index=frame.index,
        at=time(frame.captured_at, "frame.captured_at"),
        width=frame.width,
        height=frame.height,
        motion=frame.motion_significance,
        findings=findings,
        raw=frame.detections,
    )


def _finding(found: FrameDetection) -> Finding:
    label, score, box = found.label, found.score, edges(found.bounding_box)
    if not label or not 0 <= score <= 1 or found.rank < 0:
        raise broken(f"detection {found.rank} has no label or rank, or a score outside 0..1")
    if not found.HasField("bounding_box") or not math.isfinite(sum(box)):
        raise broken(f"detection {found.rank} has no bounding box")
    return Finding(found.rank, label, score, box)


def _filtered_frames(message: MediaDetected, at: int) -> tuple[ArrivedFrame, ...]:
    """As earlier versions wrote it: photos alone, so there is a frame 0 even where nothing was found."""
    frames: dict[int, list[DetectionRow]] = {} if message.detections else {0: []}
    for detection in message.detections:
        row = _detection(detection)
        frames.setdefault(row[1], []).append(row)
    media = message.media
    return tuple(
        ArrivedFrame(index, at, media.width, media.height, 0.0, filtered=tuple(rows))
        for index, rows in sorted(frames.items())
    )


def _detection(detection: Detection) -> DetectionRow:
    box, label, score = edges_of(detection), detection.label, detection.score
    if not label or not 0 <= score <= 1:
        raise broken(f"detection {detection.id} has no label, or a score outside 0..1")
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise broken(f"detection {detection.id} has no box of four numbers")
    return uuid(detection.id, "detection.id"), detection.frame, label, score, box, None


def fingerprint(file: FileFingerprint | None) -> tuple[object, ...]:
    if file is None:
        return None, None, None, None, None
    return file.path, file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode


def uuid(text: str, field: str) -> UUID:
    try:
        return parse_uuid(text)
    except ValueError:
        raise broken(f"{field} {text!r} is no UUID") from None


def time(stamp: Timestamp, field: str) -> int:
    """In microseconds."""
    at = stamp.seconds * SECOND + stamp.nanos // 1000
    if not EARLIEST <= at <= LATEST:
        raise broken(f"{field} lies beyond the years 1 to 9999")
    return at


def broken(sentence: str) -> Invalid:
    return Invalid(sentence, "BAD_RECORD")
