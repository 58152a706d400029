"""Topics and records for tests, on the session's broker."""

import asyncio
import time
from uuid import uuid4

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Delivery, Stream
from mesh.problems import Unavailable
from mesh.topics import Topic


def unique(name: str) -> str:
    return f"{name}-{uuid4().hex[:10]}"


async def media_topic(bus: Bus, partitions: int = 12) -> Topic[MediaIngested]:
    """A fresh topic like ingest.media.v1."""
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
    """A media of this camera, numbered by its size."""
    message = MediaIngested()
    message.media.camera_id = camera
    message.media.size_bytes = number
    return message


def numbers(deliveries: list[Delivery[MediaIngested]]) -> list[int]:
    return [delivery.message.media.size_bytes for delivery in deliveries]


async def receive(
    stream: Stream[MediaIngested], count: int, seconds: float = 90.0
) -> list[Delivery[MediaIngested]]:
    """The next `count` records, none of them done. Raises TimeoutError if they do not arrive."""
    received: list[Delivery[MediaIngested]] = []
    async with asyncio.timeout(seconds):
        while len(received) < count:
            received += await anext(stream.batches(count - len(received)))
    return received


async def no_lag(stream: Stream[MediaIngested], seconds: float = 90.0) -> None:
    """Waits until everything is done and the outputs are durable."""
    deadline = time.monotonic() + seconds
    while (lag := await stream.lag()) > 0:
        assert time.monotonic() < deadline, f"still {lag} not done after {seconds} s"
        await asyncio.sleep(0.01)


async def answers(bus: Bus) -> bool:
    """Whether the cluster responds within the two seconds of the check."""
    try:
        await bus.check()
    except Unavailable:
        return False
    return True


def raw(name: str) -> Topic[MediaIngested]:
    """A topic of dead letters, which are read as MediaIngested."""
    return Topic(name, MediaIngested, lambda m: m.media.camera_id, "camera id", 1, None, (), ())
