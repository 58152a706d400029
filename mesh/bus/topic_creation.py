"""Creates missing topics, and refuses existing ones with another number of partitions."""

import asyncio
from collections.abc import Collection

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest

from mesh.bus.cluster import Cluster, unavailable
from mesh.bus.settings import BusSettings
from mesh.bus.topic_layout import WantedTopic, new_replicas, with_min_isr
from mesh.problems import Conflict, Denied, Internal, Invalid

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05


async def create_topics(cluster: Cluster, wanted: Collection[WantedTopic], settings: BusSettings) -> None:
    """Raises Conflict if a topic has another number of partitions, since keys would map to other
    partitions, and Denied if one is missing that this user may not create."""
    names = [topic.name for topic in wanted]
    existing = await cluster.partitions(names)
    missing = [topic for topic in wanted if topic.name not in existing]
    if missing:
        replicas = new_replicas(settings, await cluster.brokers())
        await _create(cluster, missing, replicas)
        existing = await _wait_until_visible(cluster, names)
        for topic in missing:
            await cluster.ends(topic.name)  # returns when every partition has a leader
    for topic in wanted:
        if existing[topic.name] != topic.partitions:
            raise Conflict(
                f"topic {topic.name} has {existing[topic.name]} partitions and needs {topic.partitions}:"
                " `lares topics plan` says more",
                "TOPIC_PARTITIONS",
                topic=topic.name,
            )


async def _create(cluster: Cluster, wanted: Collection[WantedTopic], replicas: int) -> None:
    request = CreateTopicsRequest(
        create_topic_requests=[
            (
                topic.name,
                topic.partitions,
                replicas,
                [],
                list(with_min_isr(topic.settings, replicas).items()),
            )
            for topic in wanted
        ],
        timeout=int(PATIENCE_SECONDS * 1000),
        validate_only=False,
    )
    for name, code, text in (await cluster.command(request)).topic_errors:
        kind = for_code(code)
        if kind in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            raise Denied(
                f"topic {name} is missing, and this user of Kafka may not create it: run `lares topics apply`"
                " with a LARES_BUS_URL whose user may",
                "TOPIC_REFUSED",
                topic=name,
            )
        if kind is InvalidReplicationFactorError:
            raise Invalid(f"LARES_TOPIC_REPLICAS: Kafka did not create topic {name}: {text}", "BAD_SETTING")
        if code and kind is not TopicAlreadyExistsError:
            raise Internal(f"Kafka did not create topic {name}: {text or kind.__name__}", "TOPIC_REFUSED")


async def _wait_until_visible(cluster: Cluster, names: list[str]) -> dict[str, int]:
    """Returns the topics' partitions. The brokers learn of a new topic a moment after the controller."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(existing := await cluster.partitions(names)) < len(names):  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise unavailable("new topics do not appear") from None
    return existing
