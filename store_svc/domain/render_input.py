"""Chooses what renditions are made of, and computes the digest that identifies them. Pure."""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

from lares.ingest.v1.media_pb2 import Media
from lares.store.internal.v1.job_service_pb2 import RenderInput

T = TypeVar("T")

# Part of every rendition's identity: increase it when renditions of the same input are to be made again.
VERSION = "renditions/v1"
MAX_PREVIEW_FRAMES = 40


def input_digest(subject_id: str, input: RenderInput) -> str:
    """Of the subject and of all that changes the result: the contents of the media and when they were
    captured, the frames with what is drawn into them, and what is cut out."""
    hashed = RenderInput()
    hashed.CopyFrom(input)
    for source in hashed.sources:
        media = source.media
        source.media.CopyFrom(Media(sha256=media.sha256, captured_at=media.captured_at))
    return sha256(
        f"{VERSION}/{subject_id}/".encode() + hashed.SerializeToString(deterministic=True)
    ).hexdigest()


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most that many of them (two or more), from the first to the last, at even distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]
