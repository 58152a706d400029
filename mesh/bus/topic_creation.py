"""Makes the topics of the table, and refuses those that stand there differently."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest

from mesh.bus.cluster import RETRY_SECONDS, Cluster, unavailable
from mesh.problems import Conflict, Internal
from mesh.topics import DEAD_LETTER_RETENTION_SECONDS, Topic, dead_letters

REPLICAS = 3
PATIENCE_SECONDS = 60.0


async def create_topics(cluster: Cluster, topics: Iterable[Topic[Any]], services: Iterable[str]) -> None:
    """Raises Conflict where a topic has another number of partitions: keys would change theirs."""
    wanted = {topic.name: (topic.partitions, topic.retention_seconds) for topic in topics}
    wanted |= {dead_letters(service): (1, DEAD_LETTER_RETENTION_SECONDS) for service in services}
    standing = await cluster.partitions(list(wanted))
    missing = wanted.keys() - standing.keys()
    if missing:
        replicas = min(REPLICAS, await cluster.brokers())
        await _create(cluster, {name: wanted[name] for name in missing}, replicas)
        standing = await _appear(cluster, list(wanted))
        for name in missing:
            await cluster.ends(name)  # answered once every partition is led
    for name, (partitions, _) in wanted.items():
        if standing[name] != partitions:
            raise Conflict(
                f"topic {name} has {standing[name]} partitions and needs {partitions}",
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
                f"Kafka did not make topic {name}: {text or for_code(code).__name__}", "TOPIC_REFUSED"
            )


def _settings(retention_seconds: int | None) -> dict[str, str]:
    if retention_seconds is None:
        return {"cleanup.policy": "compact"}
    return {"cleanup.policy": "delete", "retention.ms": str(retention_seconds * 1000)}


async def _appear(cluster: Cluster, names: list[str]) -> dict[str, int]:
    """A topic that the controller has made reaches the brokers a moment later."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(standing := await cluster.partitions(names)) < len(names):  # noqa: ASYNC110
                await asyncio.sleep(RETRY_SECONDS / 2)
    except TimeoutError:
        raise unavailable("new topics do not appear") from None
    return standing
