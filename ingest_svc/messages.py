"""Facts as the messages of lares.ingest.v1."""

from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ingest_svc.facts import IngestedMedia, RejectedFile
from ingest_svc.fingerprint import Fingerprint, printable
from ingest_svc.formats.inspection import ClipProperties
from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from lares.ingest.v1.media_pb2 import (
    CapturedAtSource,
    Clip,
    FileFingerprint,
    Media,
    MediaType,
    RejectionReason,
)

MAX_NAME_LENGTH = 200


def ingested(media: IngestedMedia, known: bool) -> MediaIngested:
    """`known`: the store has recorded this content of this camera."""
    message = Media(
        id=media.id,
        camera_id=media.camera.id,
        camera_name=printable(media.camera.name)[:MAX_NAME_LENGTH],
        sha256=media.sha256,
        size_bytes=media.size,
        type=MediaType.Value(f"MEDIA_TYPE_{media.header.form}"),
        width=media.header.width,
        height=media.header.height,
        captured_at=timestamp(media.captured.at),
        captured_at_source=CapturedAtSource.Value(f"CAPTURED_AT_SOURCE_{media.captured.source}"),
        ingested_at=timestamp(media.ingested_at),
        file=file_fingerprint(media.file) if media.file else None,
        claimed_captured_at=timestamp(media.captured.claimed) if media.captured.claimed else None,
        known_content=known,
        clip=_clip(media.header.clip) if media.header.clip else None,
    )
    return MediaIngested(media=message, backlog=media.backlog)


def _clip(clip: ClipProperties) -> Clip:
    length = Duration()
    if clip.length is not None:
        length.FromTimedelta(clip.length)
    return Clip(
        duration=length,
        video_codec=clip.codec,
        frame_rate=clip.frame_rate,
        rotation=clip.rotation,
        has_audio=clip.has_audio,
    )


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
