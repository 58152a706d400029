"""Tails on a real broker: from the end, from the beginning, and from a time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalStateError

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, Tail
from mesh.bus.address import KafkaAddress
from mesh.problems import Invalid
from tests.support.records import media, media_topic, numbers
from tests.support.waiting import until


async def read(tail: Tail[MediaIngested], count: int) -> list[int]:
    async with asyncio.timeout(90):
        return numbers([await anext(tail) for _ in range(count)])


async def test_a_tail_from_the_end_has_all_records_written_after_it_was_entered(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(30)))
    async with bus.tail(topic) as tail:
        await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(30, 60)))
        assert sorted(await read(tail, 30)) == list(range(30, 60))


async def test_each_tail_gets_all_records(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(30)))
    async with bus.tail(topic, start="beginning") as one, bus.tail(topic, start="beginning") as two:
        assert sorted(await read(one, 30)) == sorted(await read(two, 30)) == list(range(30))


async def test_a_tail_can_start_at_a_time(bus: Bus, kafka_url: str) -> None:
    topic = await media_topic(bus, partitions=2)
    producer = AIOKafkaProducer(**KafkaAddress.parse(kafka_url).options("raw"))
    await producer.start()
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    for n in range(10):
        at = int((noon + timedelta(minutes=n)).timestamp() * 1000)
        value = media("cam", n).SerializeToString()
        await producer.send_and_wait(topic.name, value, b"cam", partition=0, timestamp_ms=at)
    await producer.stop()
    async with bus.tail(topic, start=noon + timedelta(minutes=6, seconds=-1)) as tail:
        first = await anext(tail)
        assert first.timestamp == noon + timedelta(minutes=6)
        assert await read(tail, 3) == [7, 8, 9]
    async with bus.tail(topic, start=noon + timedelta(days=1)) as tail:
        await bus.publish(topic, media("cam", 10))
        assert await read(tail, 1) == [10]
    with pytest.raises(Invalid):
        async with bus.tail(topic, start=datetime(2026, 11, 1)):
            raise AssertionError("entered with a time without a zone")


async def test_caught_up_returns_when_all_earlier_records_have_been_processed(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(200)))
    seen: list[int] = []

    async def follow(tail: Tail[MediaIngested]) -> None:
        async for delivery in tail:
            seen.append(delivery.message.media.size_bytes)

    async with bus.tail(topic, start="beginning") as tail:
        following = asyncio.create_task(follow(tail))
        await asyncio.wait_for(tail.caught_up(), 90)
        assert sorted(seen) == list(range(200))
        await bus.publish(topic, media("cam", 200))
        await until(lambda: seen[-1] == 200)
    await asyncio.wait_for(following, 90)  # a tail ends with its block


async def test_a_tail_of_an_empty_topic_is_caught_up_at_once(bus: Bus) -> None:
    topic = await media_topic(bus)
    async with bus.tail(topic, start="beginning") as tail:
        await asyncio.wait_for(tail.caught_up(), 90)


async def test_undecodable_records_are_skipped(bus: Bus, kafka_url: str) -> None:
    topic = await media_topic(bus, partitions=1)
    producer = AIOKafkaProducer(**KafkaAddress.parse(kafka_url).options("raw"))
    await producer.start()
    await producer.send_and_wait(topic.name, b"\xff\xff", b"cam")
    await producer.stop()
    await bus.publish(topic, media("cam", 1))
    async with bus.tail(topic, start="beginning") as tail:
        assert await read(tail, 1) == [1]


async def test_a_consumer_that_has_lost_its_assignment_is_replaced(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await media_topic(bus, partitions=1)

    async def lost(*_: object) -> int:
        raise IllegalStateError("not assigned")

    async with bus.tail(topic) as tail:
        consumer = tail._consumer
        monkeypatch.setattr(consumer, "position", lost)
        reading = asyncio.create_task(read(tail, 1))
        await until(lambda: reading.done() or tail._consumer is not consumer)
        await bus.publish(topic, media("cam", 1))
        assert await reading == [1]


async def test_a_tail_loses_nothing_when_a_waiting_reader_is_cancelled(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    async with bus.tail(topic) as tail:
        for n in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(tail), 0.001)
            await bus.publish(topic, media("cam", n))
            assert await read(tail, 1) == [n]
