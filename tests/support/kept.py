"""Reads store.kept.v1."""

from lares.store.v1.events_pb2 import MediaKept
from mesh.topics import KEPT
from tests.support.readable_lares import ReadableLares
from tests.support.topic_values import topic_values


async def read_kept(lares: ReadableLares) -> dict[str, MediaKept]:
    """By media id. A record that was published twice must be the same."""
    kept: dict[str, MediaKept] = {}
    for value in await topic_values(lares, KEPT.name):
        message = MediaKept.FromString(value)
        assert kept.setdefault(message.media.id, message) == message
    return kept


def detection_ids(kept: MediaKept) -> set[str]:
    return {found.id for frame in kept.frames for found in frame.detections}
