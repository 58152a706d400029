"""Why a file or an upload is rejected."""

from dataclasses import dataclass
from enum import StrEnum


class RejectReason(StrEnum):
    """The values of lares.ingest.v1.RejectionReason that ingest_svc uses, without their prefix."""

    ZERO_BYTE = "ZERO_BYTE"
    TRUNCATED = "TRUNCATED"
    CORRUPT = "CORRUPT"
    NOT_AN_IMAGE = "NOT_AN_IMAGE"
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    LINK_OUTSIDE = "LINK_OUTSIDE"
    CAMERA_CONFLICT = "CAMERA_CONFLICT"
    CAMERA_NAME = "CAMERA_NAME"
    UNREADABLE = "UNREADABLE"
    CLIPS_NOT_INSTALLED = "CLIPS_NOT_INSTALLED"
    NO_PICTURE = "NO_PICTURE"
    ENCRYPTED = "ENCRYPTED"
    TOO_LONG = "TOO_LONG"
    UNSUPPORTED_VIDEO = "UNSUPPORTED_VIDEO"


@dataclass(frozen=True)
class RejectionCause:
    """`detail` is one sentence for a person."""

    reason: RejectReason
    detail: str


OUTSIDE_LINK = RejectionCause(RejectReason.LINK_OUTSIDE, "a link that leads out of the cameras folder")
