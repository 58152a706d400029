"""`lares topics`, on a real broker."""

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, BusSettings, open_bus
from mesh.bus.access import KafkaAccess
from mesh.bus.settings import DEFAULT
from mesh.bus.topic_admin import open_topic_admin
from mesh.problems import Conflict, Invalid
from mesh.topics import INGESTED, Topic
from tests.support.lares_command import lares_command
from tests.support.parts import running_kafka
from tests.support.records import media, receive, unique
from tests.support.waiting import until

HOUR, DAY = 3600, 24 * 3600


def topic_of_cameras(seconds: int | None = HOUR) -> Topic[MediaIngested]:
    """Not created yet."""
    return replace(INGESTED, name=unique("topics"), retention_seconds=seconds)


async def plan(url: str, *topics: Topic[Any], settings: BusSettings = DEFAULT) -> list[str]:
    async with open_topic_admin(KafkaAccess(url, settings), topics, []) as admin:
        return [str(difference) for difference in await admin.plan()]


async def apply(
    url: str, *topics: Topic[Any], settings: BusSettings = DEFAULT
) -> tuple[list[str], list[str]]:
    """Returns what was done, and what is left."""
    done: list[str] = []
    async with open_topic_admin(KafkaAccess(url, settings), topics, []) as admin:
        left = await admin.apply(done.append)
    return done, [str(difference) for difference in left]


async def test_missing_topics_are_created_and_then_nothing_is_left(kafka_url: str) -> None:
    kept, compacted = topic_of_cameras(), topic_of_cameras(None)
    assert [text.split(";")[0] for text in await plan(kafka_url, kept, compacted)] == [
        f"{kept.name}: is missing: 12 partitions, 1 replica, records kept for 1 hour",
        f"{compacted.name}: is missing: 12 partitions, 1 replica, compacted",
    ]
    done = [f"{kept.name}: created", f"{compacted.name}: created"]
    assert await apply(kafka_url, kept, compacted) == (done, [])
    assert await plan(kafka_url, kept, compacted) == []
    assert await apply(kafka_url, kept, compacted) == ([], [])


async def test_retention_and_policy_are_changed_and_other_settings_stay(
    kafka_url: str, kafka_admin: Any, bus: Bus
) -> None:
    topic = topic_of_cameras()
    await apply(kafka_url, topic)
    await bus.publish(topic, media("cam", 1))
    other = await settings_of(kafka_admin, topic, {"max.message.bytes": "123456", "retention.ms": "-1"})
    assert (other["max.message.bytes"], other["retention.ms"]) == ("123456", "-1")
    wanted = replace(topic, retention_seconds=DAY)
    text = "keeps records for ever instead of 1 day: older ones will be deleted; apply changes it"
    assert await plan(kafka_url, wanted) == [f"{topic.name}: {text}"]
    assert await apply(kafka_url, wanted) == ([f"{topic.name}: retention.ms set to {DAY * 1000}"], [])
    assert await plan(kafka_url, wanted) == []
    compacted = replace(topic, retention_seconds=None)
    (difference,) = await plan(kafka_url, compacted)
    assert "cleanup.policy is delete instead of compact" in difference
    await apply(kafka_url, compacted)
    found = await settings_of(kafka_admin, topic)
    assert (found["cleanup.policy"], found["max.message.bytes"]) == ("compact", "123456")
    assert await bus.ends(topic) == await bus.ends(compacted)


async def settings_of(
    kafka_admin: Any, topic: Topic[Any], change: dict[str, str] | None = None
) -> dict[str, str]:
    """Changes settings of a topic by somebody else's tool, if there are any to change, and returns all of
    them."""
    if change:
        configs = {"cleanup.policy": "delete"} | change
        await kafka_admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, configs)])
    (answer,) = await kafka_admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
    return {name: value for name, value, *_ in answer.resources[0][4]}


async def test_partitions_are_added_to_empty_topics(kafka_url: str, bus: Bus) -> None:
    topic, more = topic_of_cameras(), replace(DEFAULT, partitions=20)
    await apply(kafka_url, topic)
    (difference,) = await plan(kafka_url, topic, settings=more)
    assert difference == f"{topic.name}: has 12 partitions instead of 20; apply adds the partitions"
    assert await apply(kafka_url, topic, settings=more) == ([f"{topic.name}: partitions added"], [])
    assert len(await bus.ends(topic)) == 20


@pytest.mark.parametrize("partitions", [20, 4])
async def test_partitions_of_a_topic_with_records_never_change(
    kafka_url: str, bus: Bus, partitions: int
) -> None:
    """Nothing else changes either, so that topics of the same cameras do not get different numbers."""
    topic, empty, missing = topic_of_cameras(), topic_of_cameras(), topic_of_cameras()
    await apply(kafka_url, topic, empty)
    await bus.publish(topic, media("cam", 1))
    wanted = [replace(each, retention_seconds=DAY) for each in (empty, missing, topic)]
    with pytest.raises(Conflict) as refused:
        await apply(kafka_url, *wanted, settings=replace(DEFAULT, partitions=partitions))
    assert refused.value.reason == "TOPIC_PARTITIONS"
    assert f"{topic.name}: has 12 partitions instead of {partitions}" in refused.value.message
    assert "nothing was changed" in refused.value.message
    assert "docs/deploy.md" in refused.value.message
    assert len(await bus.ends(empty)) == len(await bus.ends(topic)) == 12
    assert [text.split(":")[0] for text in await plan(kafka_url, *wanted)] == [
        empty.name,
        missing.name,
        topic.name,
    ]


async def test_partitions_of_a_topic_that_is_read_do_not_change(kafka_url: str, bus: Bus) -> None:
    """detect_svc has joined: another process may be about to publish."""
    topic, more = topic_of_cameras(), replace(DEFAULT, partitions=20)
    await apply(kafka_url, topic)
    async with bus.consume(topic, "detect_svc") as stream:
        await until(lambda: len(stream.positions()) == 12)
        with pytest.raises(Conflict, match="being read"):
            await apply(kafka_url, topic, settings=more)
    assert len(await bus.ends(topic)) == 12


async def test_records_that_come_between_plan_and_change_stop_it(
    kafka_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, more = topic_of_cameras(), replace(DEFAULT, partitions=20)
    await apply(kafka_url, topic)
    async with open_topic_admin(KafkaAccess(kafka_url, more), [topic], []) as admin:
        planned = await admin.plan()

        async def planned_before() -> Any:
            return planned

        monkeypatch.setattr(admin, "plan", planned_before)
        await bus.publish(topic, media("cam", 1))
        with pytest.raises(Conflict, match="has come into use"):
            await admin.apply(lambda _: None)
    assert len(await bus.ends(topic)) == 12


async def test_more_replicas_than_brokers_are_refused_with_the_setting(kafka_url: str) -> None:
    topic, three = topic_of_cameras(), replace(DEFAULT, replicas=3)
    with pytest.raises(Invalid, match="LARES_TOPIC_REPLICAS") as refused:
        await apply(kafka_url, topic, settings=three)
    assert refused.value.reason == "BAD_SETTING"
    await apply(kafka_url, topic)
    text = "has 1 replica of a partition instead of 3: move them with"
    (left,) = (await apply(kafka_url, topic, settings=three))[1]
    assert text in left


async def test_other_processes_agree_on_the_number_of_partitions(kafka_url: str) -> None:
    topic, five = topic_of_cameras(), replace(DEFAULT, partitions=5)
    async with open_bus(kafka_url, client_id="five", settings=five) as bus:
        await bus.create_topics([topic], [])
        assert len(await bus.ends(topic)) == 5
        await bus.publish(topic, media("front-door", 1))
        (partition,) = (number for number, end in (await bus.ends(topic)).items() if end)
        assert partition == bus.partition(topic, "front-door")
        async with bus.consume(topic, unique("group")) as stream:
            (delivery,) = await receive(stream, 1)
            assert delivery.partition == partition
    async with open_bus(kafka_url, client_id="twelve") as bus:
        with pytest.raises(Conflict, match="lares topics plan"):
            await bus.create_topics([topic], [])


async def run(url: str, command: str, **settings: str) -> tuple[int, str]:
    return await lares_command({"LARES_BUS_URL": url, **settings}, "topics", command)


async def test_the_command_as_a_deployment_runs_it() -> None:
    async with running_kafka() as url:
        status, text = await run(url, "plan")
        assert (status, len(text.splitlines())) == (2, 10)
        assert "ingest.media.v1: is missing: 12 partitions, 1 replica, records kept for 7 days" in text
        status, text = await run(url, "apply")
        assert (status, text.splitlines()[-1]) == (0, "all topics are as they should be")
        assert await run(url, "plan") == (0, "all topics are as they should be\n")
        async with open_bus(url, client_id="test") as bus:
            await bus.publish(INGESTED, media("cam", 1))
        status, text = await run(url, "plan", LARES_TOPIC_PARTITIONS="24")
        assert status == 2
        assert "ingest.media.v1: has 12 partitions instead of 24. It holds records" in text
        status, text = await run(url, "apply", LARES_TOPIC_PARTITIONS="24")
        assert status == 1
        assert text.startswith("lares: nothing was changed")
        assert await run(url, "plan") == (0, "all topics are as they should be\n")
        secret = url.split(":")[2].split("@")[0]
        status, text = await run(url.replace(secret, "wrong-secret"), "plan")
        assert (status, "refuses the login of lares" in text) == (1, True)
        assert secret not in text
        assert "wrong-secret" not in text
    status, text = await run("embedded:", "plan")
    assert (status, "LARES_BUS_URL" in text) == (1, True)
