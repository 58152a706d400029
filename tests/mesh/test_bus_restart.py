"""A broker that is killed and a consumer that stalls: everything waits, and nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import psutil
import pytest

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Stream, Tail, open_bus
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


def broker(url: str) -> psutil.Process:
    """Its parent, which is this process, starts it again when it is killed."""
    port = int(url.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found = child.net_connections("tcp")
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found):
                return child
    raise AssertionError(f"no child listens on {port}")


def stopped(process: psutil.Process) -> bool:
    """Whether all its threads have stopped. One receives the signal and stops the others, which go on until
    then on a busy machine."""
    return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


@asynccontextmanager
async def broker_that_hangs_and_is_killed(url: str) -> AsyncIterator[None]:
    """It hangs within the block, and is killed after it, whatever happens there: other tests use it, too."""
    process = broker(url)
    process.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: stopped(process), what=lambda: "the broker hangs")
        yield
    finally:
        process.kill()


async def follow(tail: Tail[MediaRejected], seen: list[int]) -> None:
    async for delivery in tail:
        seen.append(int(delivery.message.detail))


async def work(stream: Stream[MediaIngested], outputs: Topic[MediaRejected], seen: list[int]) -> None:
    async for batch in stream.batches(7):
        for delivery in batch:
            seen.append(delivery.message.media.size_bytes)
            stream.done(delivery, (outputs, MediaRejected(camera_id=delivery.key, detail=str(seen[-1]))))


async def test_everything_waits_for_a_killed_broker_and_nothing_is_lost(
    kafka_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await media_topic(bus)
    outputs, of_named = await rejection_topic(bus), await rejection_topic(bus)
    total, seen, seen_by_named, shown = 600, list[int](), list[int](), list[int]()

    async def published(start: int) -> bool:
        """Returns False if the broker is not back within a minute, since publishing fails then."""
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
        # If it were killed at once, it could be back before a check has failed.
        async with broker_that_hangs_and_is_killed(kafka_url):
            with pytest.raises(Unavailable):
                await bus.check()
            with monkeypatch.context() as patch, pytest.raises(Unavailable):
                patch.setattr("mesh.bus.publisher.PATIENCE_SECONDS", 0.2)
                await bus.publish(topic, media("cam-0", 0))
            with pytest.raises(Unavailable, match="Kafka does not answer"):
                async with asyncio.timeout(30):
                    await stream.lag(0.2)
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
                broker(kafka_url).kill()
                publishing = asyncio.create_task(bus.publish(topic, media("cam", 1)))
                await asyncio.sleep(0)
                publishing.cancel()
    monkeypatch.setattr("mesh.bus.bus.CONNECT_SECONDS", 200.0)
    async with open_bus(kafka_url, client_id="again") as bus:  # waits until the broker is back
        await until_async(partial(answers, bus))


async def committed(admin: Any, group: str, stream: Stream[MediaIngested]) -> bool:
    """Returns whether all records are done and committed."""
    offsets = await admin.list_consumer_group_offsets(group)
    total: int = sum(known.offset for known in offsets.values())
    return total == sum((await stream.ends()).values())


async def test_a_consumer_that_stalls_is_replaced(
    bus: Bus, kafka_admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.stall_detector.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("mesh.bus.stall_detector.LATE_SECONDS", -1.5)
    monkeypatch.setattr("mesh.bus.stream.CHECK_SECONDS", 0.2)
    topic, group = await media_topic(bus, partitions=2), unique("group")
    async with bus.consume(topic, group) as stream, bus.tail(topic) as tail:
        await bus.publish(topic, media("cam", 1))
        (delivery,) = await receive(stream, 1)
        stream.done(delivery)
        assert (await anext(tail)).message.media.size_bytes == 1
        await until_async(lambda: committed(kafka_admin, f"{group}:{topic.name}", stream))
        # On a slow machine the consumer may seem to stall and be replaced; it is None meanwhile.
        await until(lambda: stream._member.consumer and tail._consumer)
        for consumer in (stream._member.consumer, tail._consumer):
            consumer._fetcher._fetch_task.cancel()  # this is how a stall begins, without an error
        await bus.publish(topic, media("cam", 2))
        (again, shown) = await asyncio.gather(receive(stream, 1), asyncio.wait_for(anext(tail), 90))
        assert numbers(again) == numbers([shown]) == [2]
