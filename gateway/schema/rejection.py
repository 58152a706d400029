"""Files that were not taken, and why."""

from enum import Enum

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.paging import PAGE, Connection, connect, page_size
from gateway.schema.reading import read
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


@strawberry.type
class Rejection:
    message: strawberry.Private[media_service_pb2.Rejection]
    id: strawberry.ID = read("id")
    camera_id: strawberry.ID | None = read(
        "camera_id", lambda id: id or None, description="Null where the folder has no camera."
    )
    media_id: strawberry.ID | None = read(
        "media_id",
        lambda id: id or None,
        description="Set where it was taken and could not be read afterwards: what UploadMedia answered.",
    )
    path: str = read("path", description="In the cameras folder; empty for uploads.")
    reason: RejectionReason = read("reason")
    detail: str = read("detail", description="One sentence.")
    rejected_at: Timestamp = read("rejected_at")


async def list_rejections(
    info: Info, first: int | None = PAGE, after: str | None = None
) -> Connection[Rejection]:
    request = media_service_pb2.ListRejectionsRequest(page_size=page_size(first), page_token=after or "")
    answer = await call(info.context.siblings.media.ListRejections, request)
    return connect(Rejection, answer.rejections, answer)
