"""Records of the log as the store takes them: checked, since a broken one must be buried alone."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detection_pb2 import Detection
from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.media_pb2 import FileFingerprint
from mesh import times
from mesh.boxes import edges_of
from mesh.problems import Invalid
from store_svc.assembly import Frame
from store_svc.files import file_id
from store_svc.ids import parse_uuid
from store_svc.times import SECOND, micros, moment

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
EARLIEST, LATEST = micros(times.EARLIEST), micros(times.LATEST)

# id, frame, label, score, box
DetectionRow: TypeAlias = tuple[UUID, int, str, float, list[float]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One MediaDetected. `at` is captured_at in microseconds; `found` holds, by frame, what is written of
    each detection; `row` is the media's row from camera_name to inode, `file` the one in `files`, if any."""

    media_id: UUID
    camera_id: str
    camera_name: str
    at: int
    urgent: bool
    partition: int
    found: tuple[tuple[Frame, tuple[DetectionRow, ...]], ...]
    row: tuple[object, ...]
    captured_at: datetime
    file: tuple[UUID, str] | None


def arrival(message: MediaDetected, partition: int) -> Arrival:
    """Raises Invalid (BAD_RECORD)."""
    media = message.media
    if not SLUG.fullmatch(media.camera_id):
        raise broken(f"{media.camera_id!r} is no camera id")
    at = time(media.captured_at, "captured_at")
    captured_at = moment(at)
    file = media.file if media.HasField("file") else None
    return Arrival(
        media_id=uuid(media.id, "media.id"),
        camera_id=media.camera_id,
        camera_name=media.camera_name,
        at=at,
        urgent=message.urgent,
        partition=partition,
        found=tuple(_frames(message, at)),
        row=(
            media.camera_name,
            media.sha256,
            media.size_bytes,
            media.type,
            media.width,
            media.height,
            captured_at,
            media.captured_at_source,
            moment(time(media.ingested_at, "ingested_at")),
            moment(time(message.detected_at, "detected_at")),
            message.detector,
            len(message.detections),
            *fingerprint(file),
        ),
        captured_at=captured_at,
        file=(file_id(file), file.path) if file else None,
    )


def _frames(message: MediaDetected, at: int) -> list[tuple[Frame, tuple[DetectionRow, ...]]]:
    frames: dict[int, list[DetectionRow]] = {}
    for detection in message.detections:
        row = _detection(detection)
        frames.setdefault(row[1], []).append(row)
    media_id = message.media.id
    return [(Frame(media_id, index, at, len(rows)), tuple(rows)) for index, rows in sorted(frames.items())]


def _detection(detection: Detection) -> DetectionRow:
    box, label, score = edges_of(detection), detection.label, detection.score
    if not label or not 0 <= score <= 1:
        raise broken(f"detection {detection.id} has no label, or a score outside 0..1")
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise broken(f"detection {detection.id} has no box of four numbers")
    return uuid(detection.id, "detection.id"), detection.frame, label, score, box


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
