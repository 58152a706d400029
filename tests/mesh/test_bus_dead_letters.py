"""Records that cannot be processed, and requeued records, on a real broker."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer

from mesh.bus import Bus
from mesh.bus.address import KafkaAddress
from mesh.topics import dead_letters
from tests.support.records import media, media_topic, no_lag, numbers, raw, receive, unique, write_raw


async def test_undecodable_bytes_go_to_the_dead_letters_and_later_records_are_delivered(
    bus: Bus, kafka_url: str
) -> None:
    topic, service = await media_topic(bus, partitions=1), unique("svc")
    await bus.create_topics([], [service])
    await bus.publish(topic, media("cam", 1))
    await write_raw(kafka_url, topic.name, b"\xff\xffnot protobuf", b"cam")
    await bus.publish(topic, media("cam", 3))
    async with bus.consume(topic, service) as stream:
        for delivery in await receive(stream, 2):
            stream.done(delivery)
        await no_lag(stream)
    async with bus.tail(raw(dead_letters(service)), start="beginning") as tail:
        skipping = asyncio.ensure_future(anext(tail))
        await asyncio.wait_for(tail.caught_up(), 90)
        assert not skipping.done()  # it cannot be decoded there, either
    with pytest.raises(StopAsyncIteration):
        await skipping
    letters = await read_raw(kafka_url, dead_letters(service))
    ((value, headers),) = letters
    assert value == b"\xff\xffnot protobuf"
    assert headers == {
        "origin-topic": topic.name,
        "origin-partition": "0",
        "origin-offset": "1",
        "reason": "UNDECODABLE",
        "attempts": "1",
    }


async def test_a_record_with_a_timestamp_out_of_range_goes_to_the_dead_letters(
    bus: Bus, kafka_url: str
) -> None:
    topic, service = await media_topic(bus, partitions=1), unique("svc")
    await bus.create_topics([], [service])
    await write_raw(kafka_url, topic.name, media("cam", 1).SerializeToString(), b"cam", -(10**15))
    await bus.publish(topic, media("cam", 2))
    async with bus.consume(topic, service) as stream:
        (delivery,) = await receive(stream, 1)
        assert delivery.message.media.size_bytes == 2
        stream.done(delivery)
        await no_lag(stream)
    async with bus.tail(topic, start="beginning") as tail:
        assert (await anext(tail)).message.media.size_bytes == 2
    ((value, headers),) = await read_raw(kafka_url, dead_letters(service))
    assert value == media("cam", 1).SerializeToString()
    assert (headers["reason"], headers["origin-offset"]) == ("UNDECODABLE", "0")


async def read_raw(url: str, topic: str) -> list[tuple[bytes, dict[str, str]]]:
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="earliest", **KafkaAddress.parse(url).options("raw"))
    await consumer.start()
    try:
        async with asyncio.timeout(90):
            ends = await consumer.end_offsets(consumer.assignment())
            found = [await consumer.getone() for _ in range(sum(ends.values()))]
    finally:
        await consumer.stop()
    return [(record.value, {name: value.decode() for name, value in record.headers}) for record in found]


async def test_a_buried_record_is_kept_with_its_bytes_and_done(bus: Bus) -> None:
    topic, service = await media_topic(bus, partitions=1), unique("svc")
    await bus.create_topics([], [service])
    await bus.publish(topic, media("cam", 7), headers={"x-request-id": "r7"})
    async with bus.consume(topic, service) as stream:
        (delivery,) = await receive(stream, 1)
        await stream.bury(delivery, "DECODER_CRASHED", attempts=3)
        assert await stream.lag() == 0
    async with bus.tail(raw(dead_letters(service)), start="beginning") as tail:
        letter = await anext(tail)
    assert letter.message == media("cam", 7)
    assert letter.headers["x-request-id"] == "r7"
    assert (letter.headers["reason"], letter.headers["attempts"]) == ("DECODER_CRASHED", "3")
    assert (letter.headers["origin-topic"], letter.headers["origin-offset"]) == (topic.name, "0")


async def test_only_the_named_service_gets_a_requeued_record(bus: Bus) -> None:
    topic, mine, other = await media_topic(bus, partitions=1), unique("mine"), unique("other")
    await bus.publish(topic, media("cam", 1), headers={"requeue-for": mine})
    await bus.publish(topic, media("cam", 2))
    async with bus.consume(topic, mine) as stream:
        assert numbers(await receive(stream, 2)) == [1, 2]
    async with bus.consume(topic, other) as stream:
        (delivery,) = await receive(stream, 1)
        assert delivery.message.media.size_bytes == 2
        stream.done(delivery)
        await no_lag(stream)
