"""Offsets that are stored outside Kafka, and offsets that the log no longer has, on a real broker."""

from typing import Any

import pytest
import structlog
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from lares.ingest.v1.events_pb2 import MediaRejected
from mesh.bus import Bus
from mesh.problems import Conflict
from mesh.topics import Topic
from tests.support.records import (
    StoredOffsets,
    media,
    media_topic,
    no_lag,
    numbers,
    receive,
    rejection_topic,
    unique,
)
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("patient_members")


async def test_stored_offsets_take_precedence_and_are_copied_to_kafka(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=2), unique("group")
    await bus.publish(topic, *(media(f"cam-{n % 8}", n) for n in range(60)))
    async with bus.consume(topic, group) as stream:
        for delivery in await receive(stream, 60):
            stream.done(delivery)
        await no_lag(stream)
        ends, topic_id = await stream.ends(), stream.topic_id
    stored = StoredOffsets({0: 3}, topic_id)
    async with bus.consume(topic, group, offsets=stored) as stream:
        assert await stream.lag() == ends[0] - 3 + ends[1]
        came = await receive(stream, ends[0] - 3 + ends[1])
        assert min(d.offset for d in came if d.partition == 0) == 3
        assert min(d.offset for d in came if d.partition == 1) == 0
        for delivery in came:
            stream.done(delivery)
        await no_lag(stream)
    async with bus.consume(topic, group) as stream:
        await until(lambda: stream.positions() == ends, what=lambda: "Kafka has the positions too")


async def test_stored_offsets_of_another_topic_of_that_name_stop_the_stream(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    async with bus.consume(topic, unique("group"), offsets=StoredOffsets({0: 3}, "another")) as stream:
        with pytest.raises(Conflict) as stopped:
            await receive(stream, 1)
    assert stopped.value.reason == "TOPIC_CHANGED"


async def expire(kafka_admin: Any, topic: Topic[Any], before: int) -> None:
    """Deletes records of partition 0 as retention does."""
    await kafka_admin.delete_records({TopicPartition(topic.name, 0): RecordsToDelete(before_offset=before)})


async def test_an_offset_beyond_the_log_stops_the_stream(bus: Bus, kafka_admin: Any) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    await expire(kafka_admin, topic, 5)
    async with bus.consume(topic, unique("group"), offsets=StoredOffsets({0: 50})) as stream:
        for _ in range(2):  # it stays stopped
            with pytest.raises(Conflict) as stopped:
                await receive(stream, 1)
            assert stopped.value.reason == "OFFSET_OUT_OF_RANGE"
            assert stopped.value.metadata["offset"] == "50"
    async with bus.consume(topic, unique("new")) as stream:
        assert numbers(await receive(stream, 5)) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("kept", [5, 0])
async def test_records_deleted_unread_are_logged_and_skipped(bus: Bus, kafka_admin: Any, kept: int) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    await expire(kafka_admin, topic, 10 - kept)
    group, stored = unique("group"), StoredOffsets({0: 2})
    with structlog.testing.capture_logs() as lines:
        async with bus.consume(topic, group, offsets=stored) as stream:
            came = await receive(stream, kept)
            assert numbers(came) == list(range(10 - kept, 10))
            for delivery in came:
                stream.done(delivery)
            await no_lag(stream)
            assert stream.positions() == {0: 10}
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["topic"], line["group"], line["first"], line["lost"]) == (topic.name, group, 2, 8 - kept)
    async with bus.consume(topic, group) as stream:
        await until(lambda: stream.positions() == {0: 10}, what=lambda: "Kafka has the position too")


async def test_delivered_records_can_be_done_after_retention_has_deleted_them(
    bus: Bus, kafka_admin: Any
) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, *(media("cam", n) for n in range(4)))
    async with bus.consume(topic, unique("group"), buffer=4) as stream:
        held = await receive(stream, 4)
        consumer = stream._member.consumer
        await until(
            lambda: consumer.paused() and not consumer._fetcher._in_flight, what=lambda: "it fetches no more"
        )
        await bus.publish(topic, *(media("cam", n) for n in range(4, 10)))
        await expire(kafka_admin, topic, 8)
        stream.done(held[0])
        after = await receive(stream, 1)
        assert numbers(after) == [8]
        for delivery in held[1:]:
            size = str(delivery.message.media.size_bytes)
            stream.done(delivery, (outputs, MediaRejected(camera_id="cam", detail=size)))
        after += await receive(stream, 1)
        for delivery in after:
            stream.done(delivery)
        await no_lag(stream)
    async with bus.tail(outputs, start="beginning") as tail:
        assert [(await anext(tail)).message.detail for _ in range(3)] == ["1", "2", "3"]
