"""Offsets that are stored outside Kafka, and offsets that the log no longer has, on a real broker."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from lares.ingest.v1.events_pb2 import MediaRejected
from mesh.bus import Bus, Stream
from mesh.bus.address import KafkaAddress
from mesh.problems import Conflict, Unavailable
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
from tests.support.waiting import until, until_async

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


async def commit_as_a_stranger(url: str, topic: Topic[Any], group: str, offsets: dict[int, int]) -> None:
    """Commits for a group that nobody is a member of, as anybody may whom Kafka lets join it."""
    consumer = AIOKafkaConsumer(
        group_id=f"{group}:{topic.name}", enable_auto_commit=False, **KafkaAddress.parse(url).options("x")
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic.name, partition) for partition in offsets])
        await consumer.commit(
            {TopicPartition(topic.name, partition): at for partition, at in offsets.items()}
        )
    finally:
        await consumer.stop()


@pytest.mark.parametrize("foreign", [10**9, 10, 7, 0])
@pytest.mark.parametrize("stored", [{0: 4}, {}])
async def test_what_others_commit_changes_nothing(
    bus: Bus, kafka_url: str, foreign: int, stored: dict[int, int]
) -> None:
    """Beyond the end, at the end, ahead, and back."""
    topic, group = await media_topic(bus, partitions=1), unique("group")
    offsets = StoredOffsets(dict(stored), keeps=True)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    first = stored.get(0, 0)
    await commit_as_a_stranger(kafka_url, topic, group, {0: foreign})
    async with bus.consume(topic, group, offsets=offsets) as stream:
        assert await stream.lag() == 10 - first
        came = await receive(stream, 10 - first)
        assert numbers(came) == list(range(first, 10))
        for delivery in came[:3]:
            stream.done(delivery)
        await until(lambda: offsets.saved == {0: first + 3}, what=lambda: "what is done is saved")
    await commit_as_a_stranger(kafka_url, topic, group, {0: foreign})
    async with bus.consume(topic, group, offsets=offsets) as stream:
        came = await receive(stream, 7 - first)
        assert numbers(came) == list(range(first + 3, 10))
        await bus.publish(topic, media("cam", 10))
        assert numbers(await receive(stream, 1)) == [10]


async def test_partitions_that_a_stranger_has_taken_count_as_not_done(bus: Bus, kafka_url: str) -> None:
    """It has joined the group and commits what nobody has processed."""
    topic, group, offsets = await media_topic(bus), unique("group"), StoredOffsets({}, keeps=True)
    stranger = AIOKafkaConsumer(
        topic.name, group_id=f"{group}:{topic.name}", auto_offset_reset="latest",
        enable_auto_commit=True, auto_commit_interval_ms=100, **KafkaAddress.parse(kafka_url).options("x"),
    )  # fmt: skip
    async with bus.consume(topic, group, offsets=offsets) as stream:
        await stranger.start()
        try:
            await until(lambda: len(stream.positions()) == 6, what=lambda: "they share the partitions")
            await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(60)))
            ends = await stream.ends()
            mine = sum(ends[partition] for partition in stream.positions())
            for delivery in await receive(stream, mine):
                stream.done(delivery)
            await stranger.commit()
            await until_async(lambda: lag_is(stream, 60 - mine))
        finally:
            await stranger.stop()
        for delivery in await receive(stream, 60 - mine):
            stream.done(delivery)
        await no_lag(stream)


async def lag_is(stream: Stream[Any], wanted: int) -> bool:
    return await stream.lag() == wanted > 0


async def test_offsets_that_cannot_be_loaded_or_saved_are_waited_for(bus: Bus) -> None:
    class Away(StoredOffsets):
        away = True

        async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
            if self.away:
                tried.set()
                raise Unavailable("away", "AWAY")
            return await super().load(topic, topic_id, partitions)

        async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
            if self.away:
                tried.set()
                raise Unavailable("away", "AWAY")
            await super().save(topic, topic_id, positions)

    topic, offsets, tried = await media_topic(bus, 1), Away({0: 2}, keeps=True), asyncio.Event()
    await bus.publish(topic, *(media("cam", n) for n in range(6)))
    async with asyncio.timeout(90), bus.consume(topic, unique("group"), offsets=offsets) as stream:
        await tried.wait()
        offsets.away = False
        came = await receive(stream, 3)
        assert numbers(came) == [2, 3, 4]
        offsets.away = True
        tried.clear()
        for delivery in came:
            stream.done(delivery)
        await tried.wait()
        assert numbers(await receive(stream, 1)) == [5]  # meanwhile it goes on
        assert offsets.saved == {0: 2}
        offsets.away = False
        await until(lambda: offsets.saved == {0: 5}, what=lambda: "saved later")


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
