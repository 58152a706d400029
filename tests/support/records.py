"""Topics and records of one test, on the session's broker."""

import asyncio
import time
from collections.abc import Collection, Mapping
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Delivery, Stream
from mesh.bus.address import KafkaAddress
from mesh.problems import Conflict, Unavailable
from mesh.topics import Topic


def unique(name: str) -> str:
    return f"{name}-{uuid4().hex[:10]}"


async def media_topic(bus: Bus, partitions: int = 12) -> Topic[MediaIngested]:
    """Creates a topic like ingest.media.v1."""
    topic = Topic(
        unique("media"), MediaIngested, lambda m: m.media.camera_id, "camera id", partitions, 3600, (), ()
    )
    await bus.create_topics([topic], [])
    return topic


async def rejection_topic(bus: Bus) -> Topic[MediaRejected]:
    topic = Topic(unique("rejections"), MediaRejected, lambda m: m.camera_id, "camera id", 12, 3600, (), ())
    await bus.create_topics([topic], [])
    return topic


def media(camera: str, number: int) -> MediaIngested:
    """Returns a message with `number` as its size."""
    message = MediaIngested()
    message.media.camera_id = camera
    message.media.size_bytes = number
    return message


async def write_raw(url: str, topic: str, value: bytes, key: bytes, at_ms: int | None = None) -> None:
    """Writes a record that need not be a message."""
    producer = AIOKafkaProducer(**KafkaAddress.parse(url).options("raw"))
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key, timestamp_ms=at_ms)
    finally:
        await producer.stop()


def numbers(deliveries: list[Delivery[MediaIngested]]) -> list[int]:
    return [delivery.message.media.size_bytes for delivery in deliveries]


async def receive(
    stream: Stream[MediaIngested], count: int, seconds: float = 90.0
) -> list[Delivery[MediaIngested]]:
    """Returns the next `count` records, none of them done. Raises TimeoutError."""
    received: list[Delivery[MediaIngested]] = []
    async with asyncio.timeout(seconds):
        while len(received) < count:
            received += await anext(stream.batches(count - len(received)))
    return received


async def no_lag(stream: Stream[MediaIngested], seconds: float = 90.0) -> None:
    """Waits until all records are done and their outputs durable."""
    deadline = time.monotonic() + seconds
    while (lag := await stream.lag()) > 0:
        assert time.monotonic() < deadline, f"still {lag} not done after {seconds} s"
        await asyncio.sleep(0.01)


async def answers(bus: Bus) -> bool:
    """Returns whether the cluster answers within 2 s."""
    try:
        await bus.check()
    except Unavailable:
        return False
    return True


def raw(name: str) -> Topic[MediaIngested]:
    """Returns a topic of dead letters whose records are messages."""
    return Topic(name, MediaIngested, lambda m: m.media.camera_id, "camera id", 1, None, (), ())


class StoredOffsets:
    """An OffsetStore. What is saved is in `saved`; `offsets` stay as they are, unless `keeps` is set. With
    `topic_id`, it refuses another topic."""

    def __init__(self, offsets: dict[int, int], topic_id: str = "", *, keeps: bool = False) -> None:
        self.offsets, self.topic_id = offsets, topic_id
        self.saved = offsets if keeps else dict[int, int]()

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        if self.topic_id and topic_id != self.topic_id:
            raise Conflict("created anew", "TOPIC_CHANGED")
        return {partition: at for partition, at in self.offsets.items() if partition in partitions}

    async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
        self.saved |= positions
