"""Three brokers: what `lares topics apply` sets on the topics, and what the death of one broker changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from mesh.bus import Bus, open_bus
from mesh.topics import DEAD_LETTER_SERVICES, INGESTED, TOPICS, dead_letters
from tests.faults.kafka_cluster import KafkaCluster
from tests.faults.ports import Ports
from tests.support.lares_command import lares_command
from tests.support.records import media, numbers, receive, unique
from tests.support.waiting import until_async

NAMES = [*(topic.name for topic in TOPICS), *map(dead_letters, DEAD_LETTER_SERVICES)]
RIGHT = (0, "all topics are as they should be\n")
MIN_ISR = "min.insync.replicas"


@pytest.fixture(scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    """With Lares's topics."""
    kafka = KafkaCluster(tmp_path_factory.mktemp("brokers"), 3, [], session_seconds=3.0, free=Ports())
    async with AsyncExitStack() as stack:
        for broker in kafka.brokers:
            stack.push_async_callback(broker.kill)
        await kafka.start()
        status, text = await topics(kafka, "apply")
        assert status == 0, text
        yield kafka


@pytest.fixture
async def admin(kafka: KafkaCluster) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    yield admin
    await admin.close()


@pytest.fixture
async def bus(kafka: KafkaCluster) -> AsyncIterator[Bus]:
    async with open_bus(kafka.url, client_id="test") as bus:
        yield bus


async def topics(kafka: KafkaCluster, command: str) -> tuple[int, str]:
    return await lares_command({"LARES_BUS_URL": kafka.url}, "topics", command)


async def settings_of(admin: Any, name: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {setting: value for setting, value, *_ in answer.resources[0][4]}


async def set_min_isr(admin: Any, name: str, replicas: int) -> None:
    """By somebody else's tool."""
    kept = {"cleanup.policy": "delete", MIN_ISR: str(replicas)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, kept)])

    async def is_set() -> bool:
        return (await settings_of(admin, name))[MIN_ISR] == str(replicas)

    await until_async(is_set)


async def in_sync(admin: Any, name: str) -> list[int]:
    """How many replicas of each partition have all its records."""
    (topic,) = await admin.describe_topics([name])
    return [len(partition["isr"]) for partition in topic["partitions"]]


async def test_every_topic_has_three_replicas_of_which_two_must_have_a_record(
    kafka: KafkaCluster, admin: Any
) -> None:
    assert await topics(kafka, "plan") == RIGHT
    for topic in await admin.describe_topics(NAMES):
        assert {len(partition["replicas"]) for partition in topic["partitions"]} == {3}, topic["topic"]
        assert (await settings_of(admin, topic["topic"]))[MIN_ISR] == "2"


async def test_what_others_have_set_is_set_right_again(kafka: KafkaCluster, admin: Any) -> None:
    await set_min_isr(admin, INGESTED.name, 1)
    status, text = await topics(kafka, "plan")
    assert (status, f"{INGESTED.name}: {MIN_ISR} is 1 instead of 2" in text) == (2, True)
    status, text = await topics(kafka, "apply")
    assert (status, f"{INGESTED.name}: {MIN_ISR} set to 2" in text) == (0, True)
    assert (await settings_of(admin, INGESTED.name))[MIN_ISR] == "2"
    assert await topics(kafka, "plan") == RIGHT


async def test_one_broker_may_die(kafka: KafkaCluster, bus: Bus, admin: Any) -> None:
    """What the others have is acknowledged and read without it. A record of a topic that wants all three
    replicas in sync waits until it is back."""
    usual, strict = replace(INGESTED, name=unique("usual")), replace(INGESTED, name=unique("strict"))
    await bus.create_topics([usual, strict], [])
    await set_min_isr(admin, strict.name, 3)
    broker = kafka.brokers[0]
    sent = [media(f"cam-{place % 24}", place) for place in range(480)]

    async def only_two_are_in_sync() -> bool:
        with suppress(KafkaError):  # it may ask the dead broker
            return set(await in_sync(admin, strict.name)) == {2}
        return False

    await bus.publish(usual, *sent[:120])
    try:
        killed = asyncio.create_task(broker.kill())
        for start in range(120, 360, 24):  # each within a minute, or it raises Unavailable
            await bus.publish(usual, *sent[start : start + 24])
        await killed
        await until_async(only_two_are_in_sync)
        waiting = asyncio.create_task(bus.publish(strict, *sent[:24]))
        for start in range(360, 480, 24):
            await bus.publish(usual, *sent[start : start + 24])
        async with bus.consume(usual, unique("group")) as stream:
            by_camera: dict[str, list[int]] = {}
            for each in await receive(stream, len(sent)):
                by_camera.setdefault(each.key, []).append(each.message.media.size_bytes)
        assert by_camera == {f"cam-{camera}": list(range(camera, 480, 24)) for camera in range(24)}
        assert not broker.pid
        assert not waiting.done()
    finally:
        await broker.start()
        await broker.ready()
    await waiting
    async with bus.consume(strict, unique("group")) as stream:
        assert sorted(numbers(await receive(stream, 24))) == [*range(24)]
