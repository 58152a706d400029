"""Creating topics, on a real broker."""

from functools import partial
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from mesh.bus import Bus
from mesh.problems import Conflict
from mesh.topics import (
    CAMERA_PARTITIONS,
    CAMERAS,
    DEAD_LETTER_SERVICES,
    INGESTED,
    TOPICS,
    Topic,
    dead_letters,
)
from tests.support.records import (
    answers,
    media_topic,
)
from tests.support.waiting import until_async


async def settings(kafka_admin: Any, topic: str) -> dict[str, str]:
    (answer,) = await kafka_admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {name: value for name, value, *_ in answer.resources[0][4]}


async def test_topics_are_created_as_in_the_table_and_creating_them_again_changes_nothing(
    bus: Bus, kafka_admin: Any
) -> None:
    await bus.create_topics()
    await bus.create_topics()
    made = {topic["topic"]: len(topic["partitions"]) for topic in await kafka_admin.describe_topics()}
    wanted = {topic.name: topic.partitions or CAMERA_PARTITIONS for topic in TOPICS}
    wanted |= {dead_letters(service): 1 for service in DEAD_LETTER_SERVICES}
    assert wanted.items() <= made.items()
    week = await settings(kafka_admin, INGESTED.name)
    assert (week["cleanup.policy"], week["retention.ms"]) == ("delete", str(7 * 24 * 3600 * 1000))
    assert (await settings(kafka_admin, CAMERAS.name))["cleanup.policy"] == "compact"
    month = await settings(kafka_admin, dead_letters("detect_svc"))
    assert month["retention.ms"] == str(30 * 24 * 3600 * 1000)


async def test_a_topic_with_another_number_of_partitions_is_refused(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=3)
    other = Topic(topic.name, topic.message, topic.key, "camera id", 12, 3600, (), ())
    with pytest.raises(Conflict) as refused:
        await bus.create_topics([other], [])
    assert refused.value.reason == "TOPIC_PARTITIONS"


async def test_check_passes_while_the_cluster_answers(bus: Bus) -> None:
    await until_async(partial(answers, bus))
