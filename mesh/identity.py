"""Names that come from content, so that doing a thing twice gives the same thing."""

from uuid import UUID, uuid5

NAMESPACE = UUID("6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11")


def _name(kind: str, *parts: object) -> str:
    # Length-prefixed, so that no two lists of parts read the same.
    return str(uuid5(NAMESPACE, "/".join([kind, *(f"{len(text)}:{text}" for text in map(str, parts))])))


def media_id(camera_id: str, sha256: str) -> str:
    return _name("media", camera_id, sha256)


def detection_id(media_id: str, frame: int, rank: int, detector: str) -> str:
    """`rank` counts in the detector's raw output; `detector` is its name and weights digest."""
    return _name("detection", media_id, frame, rank, detector)


def event_id(media_id: str, frame: int) -> str:
    """Of the frame that opened the event."""
    return _name("event", media_id, frame)


def rejection_id(camera_id: str, path: str, size_bytes: int, mtime_ns: int) -> str:
    return _name("rejection", camera_id, path, size_bytes, mtime_ns)


def assessment_id(event_id: str, evidence_digest: str, model: str, prompt_hash: str, request_id: str) -> str:
    return _name("assessment", event_id, evidence_digest, model, prompt_hash, request_id)
