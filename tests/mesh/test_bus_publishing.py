"""Publishing on a real broker."""

import asyncio
import random
import string
from typing import Any, cast

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from lares.ingest.v1.events_pb2 import MediaRejected
from mesh.bus import Bus
from mesh.problems import Invalid, NotFound
from mesh.telemetry.trace_context import enter_request
from mesh.topics import INGESTED, Topic
from tests.support.records import (
    media,
    media_topic,
    no_lag,
    numbers,
    raw,
    receive,
    rejection_topic,
    unique,
)

pytestmark = pytest.mark.usefixtures("patient_members")


async def test_published_messages_are_in_the_log(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n % 5}", n) for n in range(500)))
    async with bus.consume(topic, unique("group")) as stream:
        assert sum((await stream.ends()).values()) == 500
        assert await stream.lag() == 500


async def test_publishing_nothing_succeeds_and_publishing_to_a_missing_topic_fails(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.cluster.TOPIC_SECONDS", 0.2)
    await bus.publish(INGESTED)
    missing = raw(unique("missing"))
    with pytest.raises(NotFound) as refused:
        await bus.publish(missing, media("cam", 1))
    assert refused.value.reason == "TOPIC_MISSING"
    with pytest.raises(NotFound):
        async with bus.consume(missing, "g"):
            raise AssertionError("entered a topic that does not exist")
    with pytest.raises(Invalid):
        await bus.publish(cast(Topic[Any], missing), MediaRejected())


async def test_cancelled_publishers_do_not_harm_others(bus: Bus) -> None:
    topic = await media_topic(bus)
    tasks = [asyncio.create_task(bus.publish(topic, media("cam", n))) for n in range(200)]
    await asyncio.sleep(0)
    for task in random.sample(tasks, 100):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bus.publish(topic, media("cam", 1000))
    kept = {n for n, task in enumerate(tasks) if not task.cancelled()}
    async with bus.consume(topic, unique("group")) as stream:
        ends = sum((await stream.ends()).values())
        came = numbers(await receive(stream, ends))
    assert came[-1] == 1000
    assert kept <= set(came)
    assert len(came) == len(set(came))


async def test_messages_of_a_key_keep_their_order(bus: Bus) -> None:
    topic = await media_topic(bus)
    for start in range(0, 400, 40):
        await bus.publish(topic, *(media(f"cam-{n % 7}", n) for n in range(start, start + 40)))
    by_key: dict[str, list[int]] = {}
    async with bus.consume(topic, unique("group")) as stream:
        while sum(map(len, by_key.values())) < 400:
            for delivery in await anext(stream.batches(13, linger=0.01)):
                by_key.setdefault(delivery.key, []).append(delivery.message.media.size_bytes)
                stream.done(delivery)
        await no_lag(stream)
    assert by_key == {f"cam-{c}": [n for n in range(400) if n % 7 == c] for c in range(7)}


async def test_publishing_works_after_the_broker_has_refused_a_batch(bus: Bus, kafka_admin: Any) -> None:
    """The broker refuses all later batches of a producer, because their sequence numbers do not follow."""
    topic = await media_topic(bus, partitions=1)
    await kafka_admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name, {"max.message.bytes": "1000"})]
    )
    await bus.publish(topic, media("cam", 1))
    with pytest.raises(Invalid) as refused:
        await bus.publish(topic, media("".join(random.choices(string.printable, k=5000)), 0))
    assert refused.value.reason == "MESSAGE_TOO_LARGE"
    await asyncio.gather(*(bus.publish(topic, media("cam", n)) for n in range(2, 10)))
    async with bus.consume(topic, unique("group")) as stream:
        assert sorted(numbers(await receive(stream, 9))) == list(range(1, 10))


async def test_request_id_and_trace_are_passed_to_a_message_and_to_its_outputs(bus: Bus) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def publish_for_a_request() -> None:
        enter_request({"x-request-id": "r42"})
        await bus.publish(topic, media("cam", 1), headers={"traceparent": trace})

    await asyncio.create_task(publish_for_a_request())  # a task has a context of its own
    async with bus.consume(topic, unique("group")) as stream:
        (delivery,) = await receive(stream, 1)
        stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
        await no_lag(stream)
    async with bus.tail(outputs, start="beginning") as tail:
        assert (await anext(tail)).headers == {"x-request-id": "r42", "traceparent": trace}
