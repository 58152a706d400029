"""Ids that are derived from content, so that repeating a step produces the same ids."""

from hashlib import sha1
from uuid import UUID

NAMESPACE = UUID("6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11")
_NAMESPACE_BYTES = NAMESPACE.bytes
# The version and variant in a UUID of version 5, and where they are.
_VERSION, _VERSION_BITS = 0x5000_8000_0000_0000_0000, 0xF000_C000_0000_0000_0000


def _id(kind: str, *parts: object) -> str:
    """The UUID of version 5, as `uuid.uuid5` makes it in twice the time."""
    name = kind
    for part in parts:
        text = str(part)
        # The length is in front, so that different lists of parts give different names.
        name += f"/{len(text)}:{text}"
    digest = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).digest()
    text = f"{int.from_bytes(digest[:16]) & ~_VERSION_BITS | _VERSION:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def media_id(camera_id: str, sha256: str) -> str:
    return _id("media", camera_id, sha256)


def detection_id(media_id: str, frame: int, rank: int, detector: str) -> str:
    """`rank` is the place in the detector's raw output; `detector` is its name and weights digest."""
    return _id("detection", media_id, frame, rank, detector)


def event_id(media_id: str, frame: int) -> str:
    """Takes the frame that opened the event."""
    return _id("event", media_id, frame)


def departure_event_id(media_id: str, frame: int) -> str:
    """The event that something has left; takes the frame by which that is known."""
    return _id("departure", media_id, frame)


def track_id(event_id: str, first_detection_id: str) -> str:
    return _id("track", event_id, first_detection_id)


def rendition_id(kind: int, digest: str) -> str:
    """`digest` is that of what it is made of and how."""
    return _id("rendition", kind, digest)


def rejection_id(camera_id: str, path: str, size_bytes: int, mtime_ns: int) -> str:
    return _id("rejection", camera_id, path, size_bytes, mtime_ns)


def assessment_id(event_id: str, evidence_digest: str, model: str, prompt_hash: str, request_id: str) -> str:
    return _id("assessment", event_id, evidence_digest, model, prompt_hash, request_id)


def render_failure_id(lease_id: str, attempt: int) -> str:
    return _id("render failure", lease_id, attempt)
