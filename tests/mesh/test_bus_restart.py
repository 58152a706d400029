"""A broker that is killed, and a consumer that stalls: everything waits, nothing is lost."""

import asyncio
import signal
from contextlib import suppress
from functools import partial

import psutil
import pytest

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Stream, Tail, open_bus
from mesh.bus.record import encode
from mesh.problems import Unavailable
from mesh.topics import Topic
from tests.support.records import (
    answers,
    media,
    media_topic,
    no_lag,
    numbers,
    receive,
    rejection_topic,
    unique,
)
from tests.support.waiting import until, until_async


def signal_broker(url: str, number: signal.Signals = signal.SIGKILL) -> None:
    """kill -9, if not told otherwise; its parent, this process, starts it again."""
    port = int(url.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it just ended
            found = child.net_connections("tcp")
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found):
                child.send_signal(number)
                return
    raise AssertionError(f"no child listens on {port}")


async def follow(tail: Tail[MediaRejected], seen: list[int]) -> None:
    async for delivery in tail:
        seen.append(int(delivery.message.detail))


async def work(stream: Stream[MediaIngested], outputs: Topic[MediaRejected], seen: list[int]) -> None:
    async for batch in stream.batches(7):
        for delivery in batch:
            seen.append(delivery.message.media.size_bytes)
            stream.done(delivery, (outputs, MediaRejected(camera_id=delivery.key, detail=str(seen[-1]))))


async def test_a_broker_that_is_killed_stalls_everything_and_loses_nothing(kafka_url: str, bus: Bus) -> None:
    topic = await media_topic(bus)
    outputs, of_named = await rejection_topic(bus), await rejection_topic(bus)
    total, seen, seen_by_named, shown = 600, list[int](), list[int](), list[int]()

    async def published(start: int) -> bool:
        """A broker that is not back within a minute is the publisher's own problem."""
        with suppress(Unavailable):
            await bus.publish(topic, *(media(f"cam-{n % 10}", n) for n in range(start, start + 10)))
            return True
        return False

    async def publish() -> None:
        for start in range(0, total, 10):
            await until_async(partial(published, start), 200)

    async with (
        open_bus(kafka_url, client_id="named", instance="home") as home,
        bus.consume(topic, unique("group")) as stream,
        home.consume(topic, unique("group")) as named,
        bus.tail(outputs) as tail,
    ):
        tasks = [
            asyncio.create_task(work(stream, outputs, seen)),
            asyncio.create_task(work(named, of_named, seen_by_named)),
            asyncio.create_task(follow(tail, shown)),
        ]
        publishing = asyncio.create_task(publish())
        await until(lambda: len(shown) > 100 and len(seen_by_named) > 100)
        signal_broker(kafka_url, signal.SIGSTOP)  # it would be back too soon to be missed
        with pytest.raises(Unavailable):
            await bus.check()
        with pytest.raises(Unavailable):
            await bus._publisher.send([encode(topic, media("cam-0", 0), {})], patience=0.2)
        signal_broker(kafka_url)
        await asyncio.wait_for(publishing, 240)
        await no_lag(stream)
        await no_lag(named)
        await until(lambda: set(shown) == set(range(total)))
    await asyncio.gather(*tasks)
    assert set(seen) == set(seen_by_named) == set(range(total))
    for camera in range(10):
        mine = list(dict.fromkeys(n for n in shown if n % 10 == camera))
        assert mine == sorted(mine), f"outputs of cam-{camera} out of order"


async def test_a_bus_closes_without_its_broker(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(90):
        async with open_bus(kafka_url, client_id="closing") as bus:
            topic = await media_topic(bus)
            async with bus.consume(topic, unique("group")) as stream, bus.tail(topic):
                await until(lambda: len(stream.positions()) == 12)
                signal_broker(kafka_url)
                publishing = asyncio.create_task(bus.publish(topic, media("cam", 1)))
                await asyncio.sleep(0)
                publishing.cancel()
    monkeypatch.setattr("mesh.bus.bus.CONNECT_SECONDS", 200.0)
    async with open_bus(kafka_url, client_id="again") as bus:  # waits for the broker to be back
        await until_async(partial(answers, bus))


async def committed(bus: Bus, stream: Stream[MediaIngested]) -> bool:
    """Whether Kafka knows that all is done."""
    place = stream._subscription
    known = await bus._cluster.committed(place.group_id, place.topic.name)
    return sum(known.values()) == sum((await stream.ends()).values())


async def test_a_consumer_that_stalls_is_replaced(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.bus.stall_detector.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("mesh.bus.stream.CHECK_SECONDS", 0.2)
    monkeypatch.setattr("mesh.bus.tail.CHECK_SECONDS", 0.2)
    topic = await media_topic(bus, partitions=2)
    async with bus.consume(topic, unique("group")) as stream, bus.tail(topic) as tail:
        await bus.publish(topic, media("cam", 1))
        (delivery,) = await receive(stream, 1)
        stream.done(delivery)
        assert (await anext(tail)).message.media.size_bytes == 1
        await until_async(lambda: committed(bus, stream))
        # None while one is replaced, as a slow machine may seem to stall.
        await until(lambda: stream._member.consumer and tail._consumer)
        for consumer in (stream._member.consumer, tail._consumer):
            consumer._fetcher._fetch_task.cancel()  # as silently as it happens
        await bus.publish(topic, media("cam", 2))
        (again, shown) = await asyncio.gather(receive(stream, 1), asyncio.wait_for(anext(tail), 90))
        assert numbers(again) == numbers([shown]) == [2]
