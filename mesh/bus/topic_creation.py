"""Creates missing topics, and refuses existing ones with another number of partitions."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest

from mesh.bus.cluster import Cluster, unavailable
from mesh.problems import Conflict, Internal
from mesh.topics import DEAD_LETTER_RETENTION_SECONDS, Topic, dead_letters

REPLICAS = 3
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05


async def create_topics(cluster: Cluster, topics: Iterable[Topic[Any]], services: Iterable[str]) -> None:
    """Raises Conflict if a topic has another number of partitions, since keys would map to other
    partitions."""
    wanted = {topic.name: (topic.partitions, topic.retention_seconds) for topic in topics}
    wanted |= {dead_letters(service): (1, DEAD_LETTER_RETENTION_SECONDS) for service in services}
    existing = await cluster.partitions(list(wanted))
    missing = wanted.keys() - existing.keys()
    if missing:
        replicas = min(REPLICAS, await cluster.brokers())
        await _create(cluster, {name: wanted[name] for name in missing}, replicas)
        existing = await _wait_until_visible(cluster, list(wanted))
        for name in missing:
            await cluster.ends(name)  # returns when every partition has a leader
    for name, (partitions, _) in wanted.items():
        if existing[name] != partitions:
            raise Conflict(
                f"topic {name} has {existing[name]} partitions and needs {partitions}",
                "TOPIC_PARTITIONS",
                topic=name,
            )


async def _create(cluster: Cluster, wanted: dict[str, tuple[int, int | None]], replicas: int) -> None:
    request = CreateTopicsRequest(
        create_topic_requests=[
            (name, partitions, replicas, [], list(_settings(retention).items()))
            for name, (partitions, retention) in wanted.items()
        ],
        timeout=int(PATIENCE_SECONDS * 1000),
        validate_only=False,
    )
    for name, code, text in (await cluster.command(request)).topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise Internal(
                f"Kafka did not create topic {name}: {text or for_code(code).__name__}", "TOPIC_REFUSED"
            )


def _settings(retention_seconds: int | None) -> dict[str, str]:
    if retention_seconds is None:
        return {"cleanup.policy": "compact"}
    return {"cleanup.policy": "delete", "retention.ms": str(retention_seconds * 1000)}


async def _wait_until_visible(cluster: Cluster, names: list[str]) -> dict[str, int]:
    """Returns the topics' partitions. The brokers learn of a new topic a moment after the controller."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(existing := await cluster.partitions(names)) < len(names):  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise unavailable("new topics do not appear") from None
    return existing
