"""Ids that are derived from content, so that repeating a step produces the same ids."""

from uuid import UUID, uuid5

NAMESPACE = UUID("6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11")


def _id(kind: str, *parts: object) -> str:
    # Each part has its length in front, so that different lists of parts give different names.
    return str(uuid5(NAMESPACE, "/".join([kind, *(f"{len(text)}:{text}" for text in map(str, parts))])))


def media_id(camera_id: str, sha256: str) -> str:
    return _id("media", camera_id, sha256)


def detection_id(media_id: str, frame: int, rank: int, detector: str) -> str:
    """`rank` is the place in the detector's raw output; `detector` is its name and weights digest."""
    return _id("detection", media_id, frame, rank, detector)


def event_id(media_id: str, frame: int) -> str:
    """Takes the frame that opened the event."""
    return _id("event", media_id, frame)


def rejection_id(camera_id: str, path: str, size_bytes: int, mtime_ns: int) -> str:
    return _id("rejection", camera_id, path, size_bytes, mtime_ns)


def assessment_id(event_id: str, evidence_digest: str, model: str, prompt_hash: str, request_id: str) -> str:
    return _id("assessment", event_id, evidence_digest, model, prompt_hash, request_id)
