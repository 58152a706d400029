"""Members of a group on a real broker: sharing, leaving, dying."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, Stream, open_bus
from mesh.topics import CAMERA_PARTITIONS, Topic
from tests.support.records import media, media_topic, no_lag, numbers, receive, unique
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("patient_members")


async def work(stream: Stream[MediaIngested], seen: list[int]) -> None:
    async for batch in stream.batches(20):
        for delivery in batch:
            seen.append(delivery.message.media.size_bytes)
            stream.done(delivery)


@asynccontextmanager
async def member(
    url: str, topic: Topic[MediaIngested], group: str, instance: str = "", session: float = 2.0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a member that the broker gives up `session` seconds after it was killed."""
    arguments = (
        url,
        topic.name,
        str(topic.partitions or CAMERA_PARTITIONS),
        group,
        instance,
        str(session),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.member",
        *arguments,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lines(process: asyncio.subprocess.Process, count: int) -> list[int]:
    assert process.stdout is not None
    async with asyncio.timeout(90):
        return [int(await process.stdout.readline()) for _ in range(count)]


async def test_members_share_the_partitions_and_take_over_those_of_one_that_leaves(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mesh.bus.stream.COMMIT_SECONDS", 60.0
    )  # so that positions are committed only when partitions move
    topic, group = await media_topic(bus), unique("group")
    one_saw: list[int] = []
    two_saw: list[int] = []
    async with bus.consume(topic, group) as one:
        working = [asyncio.create_task(work(one, one_saw))]
        await until(lambda: len(one.positions()) == 12)
        await bus.publish(topic, *(media(f"cam-{n % 40}", n) for n in range(400)))
        async with bus.consume(topic, group) as two:
            working.append(asyncio.create_task(work(two, two_saw)))
            await until(lambda: len(one.positions()) == len(two.positions()) == 6)
            assert not one.positions().keys() & two.positions().keys()
            await bus.publish(topic, *(media(f"cam-{n % 40}", n) for n in range(400, 800)))
            await until(lambda: sum({**one.positions(), **two.positions()}.values()) == 800)
        await until(lambda: len(one.positions()) == 12)
        await bus.publish(topic, *(media(f"cam-{n % 40}", n) for n in range(800, 900)))
        await until(lambda: len({*one_saw, *two_saw}) == 900)
        await no_lag(one)
    await asyncio.gather(*working)
    assert any(n >= 400 for n in two_saw)
    # Only records that were being processed when the second member joined may be delivered twice.
    assert all(n < 400 for n, times in Counter(one_saw + two_saw).items() if times > 1)


async def test_a_member_cannot_finish_records_of_partitions_that_have_moved(
    bus: Bus,
) -> None:
    topic, group = await media_topic(bus), unique("group")
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(60)))
    async with bus.consume(topic, group) as one:
        held = await receive(one, 60)
        async with bus.consume(topic, group) as two:
            await until(lambda: len(two.positions()) == 6)
            for delivery in held:
                one.done(delivery)
            assert await one.lag() == 60
            ends = await two.ends()
            theirs = await receive(two, sum(ends[partition] for partition in two.positions()))
            mine = await receive(one, 60 - len(theirs))
            assert sorted(numbers(mine) + numbers(theirs)) == list(range(60))


async def test_the_partitions_of_a_killed_member_move(bus: Bus, kafka_url: str) -> None:
    topic, group = await media_topic(bus, partitions=2), unique("group")
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(8)))
    async with member(kafka_url, topic, group) as killed:
        assert sorted(await lines(killed, 8)) == list(range(8))
        killed.kill()
        await killed.wait()
        seen: set[int] = set()
        async with bus.consume(topic, group) as stream, asyncio.timeout(90):
            while not {1, 3, 5, 7} <= seen:
                seen |= set(numbers(await anext(stream.batches(8))))


async def test_a_restarted_member_with_a_name_gets_its_partitions_back_at_once(
    bus: Bus, kafka_url: str
) -> None:
    topic, group = await media_topic(bus, partitions=2), unique("group")
    await bus.publish(topic, media("cam", 1))
    async with member(kafka_url, topic, group, "home", session=1200.0) as killed:
        assert await lines(killed, 1) == [1]
        killed.kill()
        await killed.wait()
    async with (
        open_bus(kafka_url, client_id="test", instance="home") as again,
        again.consume(topic, group) as stream,
    ):
        # Long before the broker would give up the killed member.
        assert numbers(await receive(stream, 1)) == [1]
        async with again.consume(topic, group) as second:
            await until(lambda: len(stream.positions()) == len(second.positions()) == 1)
