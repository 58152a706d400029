"""Compares the topics of a cluster with those that Lares needs, and changes what can be changed safely."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreatePartitionsRequest, DescribeConfigsRequest

from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import NOT_ALLOWED, Cluster, denied, open_cluster
from mesh.bus.config_request import TOPIC, ConfigRequest
from mesh.bus.log_filter import filtered_log
from mesh.bus.settings import BusSettings
from mesh.bus.topic_creation import create_topics
from mesh.bus.topic_layout import (
    MIN_ISR,
    POLICY,
    RETENTION,
    Difference,
    FoundTopic,
    Remedy,
    differences,
    wanted_topics,
)
from mesh.problems import Conflict, Internal
from mesh.topics import DEAD_LETTER_SERVICES, TOPICS, Topic

CONNECT_SECONDS = 30.0
TIMEOUT_MS = 60_000

Said = Callable[[str], None]


class TopicAdmin:
    """Created by `open_topic_admin`. Every method raises Denied if this user may not do it, and
    Unavailable."""

    def __init__(
        self,
        cluster: Cluster,
        topics: Collection[Topic[Any]],
        services: Collection[str],
        settings: BusSettings,
    ) -> None:
        self._cluster, self._settings = cluster, settings
        self._wanted = wanted_topics(settings, topics, services)
        self._readers = {topic.name: topic.consumers for topic in topics}

    async def plan(self) -> list[Difference]:
        """Returns what is not as it should be."""
        found = await self._found()
        return differences(self._wanted, found, self._settings, await self._cluster.brokers())

    async def apply(self, say: Said) -> list[Difference]:
        """Ends the differences that it can, calls `say` with each of them, and returns the others.

        Raises Conflict TOPIC_PARTITIONS, and changes nothing at all, if a topic that is in use has another
        number of partitions: those of the cameras' topics must be the same."""
        plan = await self.plan()
        if refused := [str(found) for found in plan if found.remedy is Remedy.REFUSE]:
            raise Conflict("\n".join(["nothing was changed", *refused]), "TOPIC_PARTITIONS")
        if few := [found.topic for found in plan if found.remedy is Remedy.EXTEND]:
            await self._extend(few, say)
        if missing := [found for found in plan if found.remedy is Remedy.CREATE]:
            names = {found.topic for found in missing}
            await create_topics(
                self._cluster, [topic for topic in self._wanted if topic.name in names], self._settings
            )
            for found in missing:
                say(f"{found.topic}: created")
        for found in plan:
            if found.remedy is Remedy.ALTER:
                await self._alter(found)
                say(f"{found.topic}: {found.setting} set to {found.value}")
        return [found for found in plan if found.remedy is Remedy.OTHERS]

    async def _found(self) -> dict[str, FoundTopic]:
        found: dict[str, FoundTopic] = {}
        existing = await self._cluster.replicas([topic.name for topic in self._wanted])
        for topic in self._wanted:
            if (partitions := existing.get(topic.name)) is not None:
                # Whether it is used matters only then, and takes more permissions.
                used = len(partitions) != topic.partitions and await self._used(topic.name)
                settings = await self._topic_settings(topic.name)
                found[topic.name] = FoundTopic(len(partitions), min(partitions), settings, used)
        return found

    async def _used(self, topic: str) -> bool:
        """Whether the topic holds records, or a group of Lares reads it."""
        if await self._cluster.ends(topic) != await self._cluster.beginnings(topic):
            return True
        readers = self._readers.get(topic, ())
        return any([await self._cluster.members(f"{service}:{topic}") for service in readers])

    async def _topic_settings(self, topic: str) -> dict[str, str]:
        request = DescribeConfigsRequest([(TOPIC, topic, [POLICY, RETENTION, MIN_ISR])])
        ((code, text, _, _, entries),) = (await self._cluster.ask(request)).resources
        _require(code, text, topic)
        return {name: value or "" for name, value, *_ in entries}

    async def _alter(self, found: Difference) -> None:
        request = ConfigRequest(found.topic, {found.setting: found.value})
        for code, text, *_ in (await self._cluster.command(request)).responses:
            _require(code, text, found.topic)

    async def _extend(self, topics: Collection[str], say: Said) -> None:
        """Adds partitions to all of them or none: asks once more whether one is used, since much may have
        happened since the plan."""
        for topic in topics:
            if await self._used(topic):
                raise Conflict(f"topic {topic} has come into use: nothing was changed", "TOPIC_PARTITIONS")
        counts = [(topic.name, (topic.partitions, None)) for topic in self._wanted if topic.name in topics]
        request = CreatePartitionsRequest(counts, TIMEOUT_MS, False)
        for topic, code, text in (await self._cluster.command(request)).topic_errors:
            _require(code, text, topic)
            say(f"{topic}: partitions added")


@asynccontextmanager
async def open_topic_admin(
    access: KafkaAccess,
    topics: Collection[Topic[Any]] = TOPICS,
    services: Collection[str] = DEAD_LETTER_SERVICES,
) -> AsyncIterator[TopicAdmin]:
    """Waits up to 30 s for a broker. Raises as `open_cluster`."""
    with filtered_log():
        async with open_cluster(access, "lares-topics", patience=CONNECT_SECONDS) as cluster:
            yield TopicAdmin(cluster, topics, services, access.settings)


def _require(code: int, text: str | None, topic: str) -> None:
    kind = for_code(code)
    if kind in NOT_ALLOWED:
        raise denied(kind(topic))
    if code:
        raise Internal(f"Kafka refuses to change topic {topic}: {text or kind.__name__}", "TOPIC_REFUSED")
