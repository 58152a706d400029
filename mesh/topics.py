"""The table of topics. The bus creates the topics from it, and docs/topics.md is generated from it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from lares.detect.v1 import events_pb2 as detect
from lares.ingest.v1 import events_pb2 as ingest
from lares.reason.v1 import events_pb2 as reason
from lares.store.v1 import events_pb2 as store

M = TypeVar("M", bound=Message)

# The usual LARES_TOPIC_PARTITIONS.
CAMERA_PARTITIONS = 12
DAYS = 24 * 3600


@dataclass(frozen=True)
class Topic(Generic[M]):
    """A Kafka topic. `retention_seconds` None means compacted: the latest record of each key is kept.

    `partitions` None means LARES_TOPIC_PARTITIONS. It is the same for every topic between a camera and the
    store, so that a camera has one partition in all of them."""

    name: str
    message: type[M]
    key: Callable[[M], str]
    key_name: str
    partitions: int | None
    retention_seconds: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


INGESTED = Topic(
    name="ingest.media.v1",
    message=ingest.MediaIngested,
    key=lambda m: m.media.camera_id,
    key_name="camera id",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("ingest_svc",),
    consumers=("detect_svc", "store_svc"),
)
REJECTED = Topic(
    name="ingest.rejections.v1",
    message=ingest.MediaRejected,
    key=lambda m: m.camera_id or m.file.path,
    key_name="camera id, else path",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("ingest_svc", "detect_svc"),
    consumers=("store_svc",),
)
DETECTED = Topic(
    name="detect.detections.v1",
    message=detect.MediaDetected,
    key=lambda m: m.media.camera_id,
    key_name="camera id",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("detect_svc",),
    consumers=("store_svc",),
)
RENDERED = Topic(
    name="detect.renditions.v1",
    message=detect.MediaRendered,
    key=lambda m: m.camera_id,
    key_name="camera id",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("detect_svc",),
    consumers=("store_svc",),
)
ASSESSED = Topic(
    name="reason.assessments.v1",
    message=reason.EventAssessed,
    key=lambda m: m.camera_id,
    key_name="camera id",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("reason_svc",),
    consumers=("store_svc",),
)
FEED = Topic(
    name="store.feed.v1",
    message=store.EventChanged,
    key=lambda m: m.event.camera_id,
    key_name="camera id",
    partitions=1,
    retention_seconds=7 * DAYS,
    producers=("store_svc",),
    consumers=("gateway", "store_svc"),
)
CAMERAS = Topic(
    name="store.cameras.v1",
    message=store.CameraConfigured,
    key=lambda m: m.camera.id,
    key_name="camera id",
    partitions=1,
    retention_seconds=None,
    producers=("store_svc",),
    consumers=("ingest_svc",),
)
KEPT = Topic(
    name="store.kept.v1",
    message=store.MediaKept,
    key=lambda m: m.media.camera_id,
    key_name="camera id",
    partitions=None,
    retention_seconds=7 * DAYS,
    producers=("store_svc",),
    consumers=("analytics",),
)

TOPICS: tuple[Topic[Any], ...] = (INGESTED, REJECTED, DETECTED, RENDERED, ASSESSED, FEED, CAMERAS, KEPT)

# Services with a topic of dead letters, `<service>.dead.v1`. Its records are raw bytes, so it is not typed.
DEAD_LETTER_SERVICES = ("detect_svc", "store_svc")
DEAD_LETTER_RETENTION_SECONDS = 30 * DAYS


def used_by(targets: Collection[str]) -> tuple[list[Topic[Any]], list[str]]:
    """The topics that these targets write or read, and the services among them that have dead letters."""
    services = {service for target in targets for service in (target, f"{target}_svc")}
    topics = [topic for topic in TOPICS if not {*topic.producers, *topic.consumers}.isdisjoint(services)]
    return topics, [service for service in DEAD_LETTER_SERVICES if service in services]


def dead_letters(service: str) -> str:
    """Returns the name of the topic for records that `service` can never process."""
    return f"{service.removesuffix('_svc')}.dead.v1"
