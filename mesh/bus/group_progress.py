"""How far a group has read a topic, as others see it who do not read as its members."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.bus.cluster import Cluster
from mesh.delivery import OffsetStore
from mesh.topics import Topic

# How often the topic's id and its oldest records are asked for, which hardly change.
REFRESH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """`position` is the offset of the first record that is not done, `end` the one that the next record will
    get."""

    position: int
    end: int

    @property
    def undone(self) -> int:
        return max(0, self.end - self.position)


class GroupProgress:
    """Created by `Bus.progress`. `offsets` has the group's offsets: those in Kafka do not count, because
    anybody may commit others whom Kafka lets join the group."""

    def __init__(self, cluster: Cluster, topic: Topic[Any], offsets: OffsetStore) -> None:
        self._cluster, self._topic, self._offsets = cluster, topic, offsets
        self._topic_id, self._beginnings = "", dict[int, int]()
        self._refreshed_at: float | None = None

    async def read(self) -> Mapping[int, PartitionProgress]:
        """Returns the progress by partition. Raises NotFound, Unavailable."""
        name = self._topic.name
        await self._refresh()
        # In this order, so that a group that reads meanwhile is never beyond the end.
        positions = await self._offsets.load(name, self._topic_id, self._beginnings.keys())
        ends = await self._cluster.ends(name)
        # A group without an offset begins at the oldest record. So does one that was away too long.
        return {
            partition: PartitionProgress(max(positions.get(partition, 0), oldest), ends[partition])
            for partition, oldest in self._beginnings.items()
        }

    async def _refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._refreshed_at is None or now - self._refreshed_at >= REFRESH_SECONDS:
            self._topic_id = (await self._cluster.topic(self._topic.name)).id
            self._beginnings = await self._cluster.beginnings(self._topic.name)
            self._refreshed_at = now
