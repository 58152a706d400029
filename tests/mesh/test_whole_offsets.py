"""A whole Lares on a home in whose Kafka somebody has committed offsets for Lares's own groups."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError

from deploy.embedded.kafka import open_kafka
from mesh.bus import open_bus
from mesh.bus.address import KafkaAddress
from mesh.topics import ASSESSED, DETECTED, INGESTED, REJECTED, Topic
from tests.bench.measure import program
from tests.support.lares import Lares
from tests.support.parts import CACHE
from tests.support.photos import person_photo, renumbered
from tests.support.waiting import until_async

GROUPS: dict[str, tuple[Topic[Any], ...]] = {
    "detect_svc": (INGESTED,),
    "store_svc": (DETECTED, REJECTED, ASSESSED),
}
BEYOND = 10**6
CAMERAS = [f"cam-{n}" for n in range(6)]


@pytest.fixture
async def lares(tmp_path: Path) -> AsyncIterator[Lares]:
    """Not started yet."""
    lares = Lares(tmp_path / "home")
    yield lares
    await lares.close()


def drop(lares: Lares, first: int) -> None:
    """A photo of each camera."""
    for number, camera in enumerate(CAMERAS, first):
        folder = lares.cameras / camera
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{number}.part").write_bytes(renumbered(person_photo(), number))
        (folder / f".{number}.part").rename(folder / f"{number}.jpg")


async def committed(consumer: Any, offsets: dict[TopicPartition, int]) -> bool:
    """Not while the group still waits for the member that was killed."""
    try:
        await consumer.commit(offsets)
    except CommitFailedError:
        return False
    return True


async def commit_as_a_stranger(url: str) -> set[int]:
    """Commits the end of every even partition, and far beyond it of every odd one, for each group. Returns
    which partitions have announcements."""
    async with open_bus(url, client_id="test") as bus:
        for service, topics in GROUPS.items():
            for topic in topics:
                async with bus.tail(topic, start="end") as tail:
                    ends = tail.positions()
                if topic is INGESTED:
                    used = {number for number, at in ends.items() if at}
                offsets = {
                    TopicPartition(topic.name, number): at + number % 2 * BEYOND
                    for number, at in ends.items()
                }
                consumer = AIOKafkaConsumer(
                    group_id=f"{service}:{topic.name}", **KafkaAddress.parse(url).options("stranger")
                )
                await consumer.start()
                try:
                    consumer.assign(list(offsets))
                    await until_async(partial(committed, consumer, offsets))
                finally:
                    await consumer.stop()
    return used


async def test_no_photo_is_skipped_and_the_start_does_not_fail(lares: Lares) -> None:
    """Photos are announced and not detected when somebody commits that they are, and more."""
    lares.start()
    await lares.ready()
    drop(lares, 0)
    await lares.until_stored(len(CAMERAS))
    await lares.idle()
    for child in lares.children():
        if program(child) == "detector":
            child.suspend()
    drop(lares, len(CAMERAS))

    async def announced() -> bool:
        status = (await lares.graphql("{ status { detect { lag } } }"))["status"]
        return bool(status["detect"]["lag"] == len(CAMERAS))

    await until_async(announced)
    lares.kill()
    async with open_kafka(lares.home, lares.kafka, CACHE) as url:
        assert {number % 2 for number in await commit_as_a_stranger(url)} == {0, 1}
    lares.start()
    await lares.ready()
    await lares.until_stored(2 * len(CAMERAS))
    await lares.idle()
