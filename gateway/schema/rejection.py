"""Files and uploads that were not taken, and why."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.message_fields import message_field
from gateway.schema.paging import PAGE, Connection, connect, page_size
from lares.ingest.v1 import media_pb2
from lares.store.v1 import media_service_pb2
from mesh.rpc import call


@strawberry.enum
class RejectionReason(Enum):
    ZERO_BYTE = media_pb2.REJECTION_REASON_ZERO_BYTE
    TRUNCATED = media_pb2.REJECTION_REASON_TRUNCATED
    CORRUPT = media_pb2.REJECTION_REASON_CORRUPT
    NOT_AN_IMAGE = media_pb2.REJECTION_REASON_NOT_AN_IMAGE
    TOO_MANY_BYTES = media_pb2.REJECTION_REASON_TOO_MANY_BYTES
    TOO_MANY_PIXELS = media_pb2.REJECTION_REASON_TOO_MANY_PIXELS
    VIDEO_NOT_YET = media_pb2.REJECTION_REASON_VIDEO_NOT_YET
    LINK_OUTSIDE = media_pb2.REJECTION_REASON_LINK_OUTSIDE
    CAMERA_CONFLICT = media_pb2.REJECTION_REASON_CAMERA_CONFLICT
    CAMERA_NAME = media_pb2.REJECTION_REASON_CAMERA_NAME
    UNREADABLE = media_pb2.REJECTION_REASON_UNREADABLE
    UNDETECTABLE = media_pb2.REJECTION_REASON_UNDETECTABLE
    CLIPS_NOT_INSTALLED = media_pb2.REJECTION_REASON_CLIPS_NOT_INSTALLED
    NO_PICTURE = media_pb2.REJECTION_REASON_NO_PICTURE
    ENCRYPTED = media_pb2.REJECTION_REASON_ENCRYPTED
    TOO_LONG = media_pb2.REJECTION_REASON_TOO_LONG
    UNSUPPORTED_VIDEO = media_pb2.REJECTION_REASON_UNSUPPORTED_VIDEO
    TOO_MANY_FINDINGS = media_pb2.REJECTION_REASON_TOO_MANY_FINDINGS


@strawberry.type(description="A file or an upload that was not taken, or could not be decoded, and why.")
class Rejection:
    message: strawberry.Private[media_service_pb2.Rejection]
    id: strawberry.ID = message_field("id")
    camera_id: strawberry.ID | None = message_field(
        "camera_id", lambda id: id or None, description="Null if the folder belongs to no camera."
    )
    media_id: strawberry.ID | None = message_field(
        "media_id",
        lambda id: id or None,
        description="The id that UploadMedia returned, if the media was taken and could not be decoded "
        "later; otherwise null.",
    )
    path: str = message_field("path", description="In the cameras folder; empty for uploads.")
    reason: RejectionReason = message_field("reason")
    detail: str = message_field("detail", description="One sentence.")
    rejected_at: Timestamp = message_field("rejected_at")


async def list_rejections(
    info: Info, first: int | None = PAGE, after: str | None = None
) -> Connection[Rejection]:
    request = media_service_pb2.ListRejectionsRequest(page_size=page_size(first), page_token=after or "")
    response = await call(info.context.siblings.media.ListRejections, request)
    return connect(Rejection, response.rejections, response)
