"""How far detect_svc has come with ingest.media.v1."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import grpc

from ingest_svc.turns import PartitionProgress
from lares.detect.internal.v1.progress_service_pb2 import GetProgressRequest, GetProgressResponse
from lares.detect.internal.v1.progress_service_pb2_grpc import ProgressServiceStub
from mesh.offset_client import OffsetClient
from mesh.problems import Problem
from mesh.rpc.replicas import ask_each
from mesh.topics import INGESTED, Topic

DETECT = "detect_svc"
REPORT_SECONDS = 0.5
# How often Kafka is asked for what hardly changes: the topic's id and its oldest records.
REFRESH_SECONDS = 10.0


class TopicOffsets(Protocol):
    """The part of mesh.bus.Bus that tells how far a topic goes."""

    async def topic_id(self, topic: Topic[Any]) -> str: ...

    async def beginnings(self, topic: Topic[Any]) -> dict[int, int]: ...

    async def ends(self, topic: Topic[Any]) -> dict[int, int]: ...


class DetectionProgress:
    """Asks detect_svc about the partitions that its processes read, and the store, which learns of detections
    about a second later, about the others. What Kafka has as the group's offsets does not count: anybody may
    commit them whom it lets join. `replicas` returns a channel to each replica of a service."""

    def __init__(
        self,
        bus: TopicOffsets,
        store: grpc.aio.Channel,
        replicas: Callable[[str], Awaitable[list[grpc.aio.Channel]]],
    ) -> None:
        self._bus, self._store, self._replicas = bus, OffsetClient(store, DETECT), replicas
        self._topic_id, self._beginnings = "", dict[int, int]()
        self._refreshed_at: float | None = None

    async def read(self) -> Mapping[int, PartitionProgress]:
        """Returns the progress by partition. Raises NotFound, Unavailable."""
        await self._refresh()
        report = await self._report()
        others = self._beginnings.keys() - report.processed.keys()
        stored = await self._store.load(INGESTED.name, self._topic_id, others) if others else {}
        ends = await self._bus.ends(INGESTED)  # the last, so that nobody is beyond it
        # Without an offset, detect_svc begins at the oldest record; so it does if it was away too long.
        detected, published = stored | dict(report.processed), stored | dict(report.published)
        return {
            partition: PartitionProgress(
                max(detected.get(partition, 0), oldest),
                max(published.get(partition, 0), oldest),
                ends[partition],
            )
            for partition, oldest in self._beginnings.items()
        }

    async def _report(self) -> GetProgressResponse:
        """What the replicas of detect_svc that answer say of the partitions that they read."""
        report = GetProgressResponse()
        # The settings have no address of it, it is away, or it is an earlier version.
        with suppress(Problem):
            for answer in await ask_each(
                await self._replicas("detect"),
                lambda channel: ProgressServiceStub(channel).GetProgress,
                GetProgressRequest(),
                timeout=REPORT_SECONDS,
            ):
                report.MergeFrom(answer)
        return report

    async def _refresh(self) -> None:
        now = time.monotonic()
        if self._refreshed_at is None or now - self._refreshed_at >= REFRESH_SECONDS:
            self._topic_id = await self._bus.topic_id(INGESTED)
            self._beginnings = await self._bus.beginnings(INGESTED)
            self._refreshed_at = now
