"""Facts as the messages of lares.ingest.v1."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ingest_svc.facts import Photo, RejectedFile
from ingest_svc.fingerprint import Fingerprint, printable
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import (
    CapturedAtSource,
    FileFingerprint,
    Media,
    MediaType,
    RejectionReason,
)

MAX_NAME_LENGTH = 200


def ingested(photo: Photo, known: bool) -> MediaIngested:
    """`known`: the store has recorded this content of this camera."""
    media = Media(
        id=photo.id,
        camera_id=photo.camera.id,
        camera_name=printable(photo.camera.name)[:MAX_NAME_LENGTH],
        sha256=photo.sha256,
        size_bytes=photo.size,
        type=MediaType.Value(f"MEDIA_TYPE_{photo.header.form}"),
        width=photo.header.width,
        height=photo.header.height,
        captured_at=timestamp(photo.captured.at),
        captured_at_source=CapturedAtSource.Value(f"CAPTURED_AT_SOURCE_{photo.captured.source}"),
        ingested_at=timestamp(photo.ingested_at),
        file=file_fingerprint(photo.file) if photo.file else None,
        claimed_captured_at=timestamp(photo.captured.claimed) if photo.captured.claimed else None,
        known_content=known,
    )
    return MediaIngested(media=media, backlog=photo.backlog)


def rejected(rejection: RejectedFile) -> MediaRejected:
    return MediaRejected(
        rejection_id=rejection.id,
        camera_id=rejection.camera_id,
        file=file_fingerprint(rejection.file),
        reason=RejectionReason.Value(f"REJECTION_REASON_{rejection.cause.reason}"),
        detail=printable(rejection.cause.detail),
        rejected_at=timestamp(rejection.rejected_at),
    )


def file_fingerprint(file: Fingerprint) -> FileFingerprint:
    return FileFingerprint(
        path=printable(file.path),
        size_bytes=file.size,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
        inode=file.inode,
    )


def timestamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message
