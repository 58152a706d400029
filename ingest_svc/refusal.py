"""Why a file is not taken."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Those of lares.ingest.v1.RejectionReason that show before a detector looks, without their prefix."""

    ZERO_BYTE = "ZERO_BYTE"
    TRUNCATED = "TRUNCATED"
    CORRUPT = "CORRUPT"
    NOT_AN_IMAGE = "NOT_AN_IMAGE"
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    VIDEO_NOT_YET = "VIDEO_NOT_YET"
    LINK_OUTSIDE = "LINK_OUTSIDE"
    CAMERA_CONFLICT = "CAMERA_CONFLICT"
    CAMERA_NAME = "CAMERA_NAME"
    UNREADABLE = "UNREADABLE"


@dataclass(frozen=True)
class Refusal:
    """`detail` is one sentence for a person."""

    reason: Reason
    detail: str


LINK = Refusal(Reason.LINK_OUTSIDE, "a link that leaves the cameras folder")
