"""Protobuf messages from rows. A row gives its values by column name: an asyncpg record, or a dict."""

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from lares.detect.v1.detection_pb2 import Detection
from lares.ingest.v1.media_pb2 import FileFingerprint, Media
from lares.reason.v1.evidence_pb2 import EvidenceDetection
from lares.store.v1.camera_pb2 import Camera as CameraMessage
from lares.store.v1.detection_service_pb2 import StoredDetection
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFailure
from lares.store.v1.events_pb2 import CameraConfigured
from lares.store.v1.key_service_pb2 import Key
from lares.store.v1.media_service_pb2 import Rejection, StoredFrame, StoredMedia
from lares.store.v1.stored_clip_pb2 import StoredClip
from mesh.boxes import bounding_box
from mesh.labels import by_canonical
from mesh.permissions import OF_A_KEY
from mesh.problems import Invalid
from store_svc.database.statement import Row
from store_svc.domain.camera import StoredCamera
from store_svc.times import EPOCH, stamp


def bound(at: Timestamp) -> datetime:
    """A bound for stored times: rounded up to the microsecond, it divides them as the exact time does. Raises
    Invalid (BAD_TIME) beyond the years 1 to 9999."""
    try:
        return EPOCH + timedelta(seconds=at.seconds, microseconds=-(-at.nanos // 1_000))
    except OverflowError:
        raise Invalid("this time lies beyond the years 1 to 9999", "BAD_TIME") from None


def event_message(row: Row, camera_name: str, assessment: bytes | None) -> Event:
    """`row` is one of the table `events`; `assessment` is the body of its current assessment."""
    message = Event(
        id=str(row["id"]),
        camera_id=row["camera_id"],
        camera_name=camera_name,
        status=row["status"],
        revision=row["revision"],
        sequence=row["sequence"],
        started_at=stamp(row["started_at"]),
        ended_at=stamp(row["ended_at"]),
        closed=row["closed"],
        labels=row["labels"],
        detection_count=row["detection_count"],
        media_count=row["media_count"],
        zone_ids=row["zones"],
    )
    if assessment is not None:
        message.assessment.MergeFromString(assessment)
    return message


def camera_message(camera: StoredCamera) -> CameraMessage:
    message = CameraMessage(
        id=camera.id,
        display_name=camera.display_name,
        time_zone=camera.time_zone,
        enabled=camera.enabled,
        thresholds=by_canonical(camera.thresholds),  # earlier versions stored other names, too
        created_at=stamp(camera.created_at),
        updated_at=stamp(camera.updated_at),
    )
    message.MergeFromString(camera.scene)
    return message


def camera_configured(camera: StoredCamera) -> CameraConfigured:
    """The record of store.cameras.v1."""
    return CameraConfigured(
        camera=camera_message(camera), deleted=camera.deleted_at is not None, revision=camera.revision
    )


def media_message(row: Row) -> StoredMedia:
    message = StoredMedia(
        media=Media(
            id=str(row["id"]),
            camera_id=row["camera_id"],
            camera_name=row["camera_name"],
            sha256=row["sha256"],
            size_bytes=row["size_bytes"],
            type=row["type"],
            width=row["width"],
            height=row["height"],
            captured_at=stamp(row["captured_at"]),
            captured_at_source=row["captured_at_source"],
            claimed_captured_at=stamp(claimed) if (claimed := row["claimed_captured_at"]) else None,
            ingested_at=stamp(row["ingested_at"]),
            file=_file(row),
        ),
        detected_at=stamp(row["detected_at"]),
        detector=row["detector"],
        detection_count=row["detection_count"],
        camera_revision=row["camera_revision"] or 0,
        policy_digest=row["policy_digest"] or "",
        poster_frame=row["poster_frame"],
    )
    if row["clip"] is not None:
        stored = StoredClip.FromString(row["clip"])
        message.media.clip.CopyFrom(stored.clip)
        if stored.HasField("frame_choice"):
            message.frame_choice.CopyFrom(stored.frame_choice)
    return message


def photo_frame_message(row: Row) -> StoredFrame:
    """The frame of a photo; `row` is one of the table `media`."""
    return StoredFrame(captured_at=stamp(row["captured_at"]), width=row["width"], height=row["height"])


def frame_message(row: Row) -> StoredFrame:
    return StoredFrame(
        index=row["index"],
        captured_at=stamp(row["captured_at"]),
        width=row["width"],
        height=row["height"],
        motion_significance=row["motion_significance"],
    )


def _file(row: Row) -> FileFingerprint | None:
    if row["path"] is None:
        return None
    return FileFingerprint(
        path=row["path"],
        size_bytes=row["file_size_bytes"],
        mtime_ns=row["mtime_ns"],
        ctime_ns=row["ctime_ns"],
        inode=row["inode"],
    )


def detection_message(row: Row) -> StoredDetection:
    return StoredDetection(
        detection=Detection(
            id=str(row["id"]),
            label=row["label"],
            score=row["score"],
            bounding_box=bounding_box(row["box"]),
            frame=row["frame"],
        ),
        media_id=str(row["media_id"]),
        event_id=str(row["event_id"] or ""),
        camera_id=row["camera_id"],
        captured_at=stamp(row["captured_at"]),
        zone_ids=row["zones"],
    )


def evidence_detection_message(row: Row) -> EvidenceDetection:
    return EvidenceDetection(
        id=str(row["id"]),
        label=row["label"],
        score=row["score"],
        bounding_box=bounding_box(row["box"]),
        captured_at=stamp(row["captured_at"]),
        media_id=str(row["media_id"]),
        stands=row["stands"],
    )


def rejection_message(row: Row) -> Rejection:
    return Rejection(
        id=str(row["id"]),
        camera_id=row["camera_id"],
        path=row["path"],
        reason=row["reason"],
        detail=row["detail"],
        rejected_at=stamp(row["rejected_at"]),
        media_id=str(row["media_id"] or ""),
    )


def failure_message(row: Row) -> EventFailure:
    request_id = row["given_up_request_id"]
    return EventFailure(
        event_id=str(row["event_id"]),
        reason=row["reason"],
        detail=row["detail"],
        failed_at=stamp(row["failed_at"]),
        given_up_request_id=str(request_id) if request_id else "",
    )


def key_message(row: Row) -> Key:
    revoked = row["revoked_at"]
    return Key(
        id=str(row["id"]),
        name=row["name"],
        created_at=stamp(row["created_at"]),
        revoked_at=stamp(revoked) if revoked else None,
        permissions=sorted(OF_A_KEY if row["permissions"] is None else row["permissions"]),
        camera_id=row["camera_id"] or "",
    )
