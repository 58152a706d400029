"""The offsets that the store keeps for detect_svc, on a real PostgreSQL and a real Kafka."""

from collections.abc import AsyncIterator

import pytest

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus
from mesh.topics import Topic
from store_svc.consumer_offsets import ConsumerOffsets
from store_svc.first_offsets import DETECT, ensure_detect_offsets
from tests.support.facts import detected
from tests.support.recorded import Recorded, open_recorded
from tests.support.records import media_topic

TOPIC = "ingest.media.v1"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


@pytest.fixture
def offsets(store: Recorded) -> ConsumerOffsets:
    return ConsumerOffsets(store.database)


async def load(offsets: ConsumerOffsets, topic_id: str = "topic-1") -> dict[int, int]:
    return await offsets.load(DETECT, TOPIC, topic_id, range(12))


async def test_they_are_kept_by_consumer_topic_and_partition(offsets: ConsumerOffsets) -> None:
    assert await load(offsets) == {}
    await offsets.advance(DETECT, TOPIC, "topic-1", {3: 7, 0: 2})
    await offsets.advance(DETECT, TOPIC, "topic-1", {0: 4, 5: 0})
    await offsets.advance("another", TOPIC, "topic-1", {0: 100})
    await offsets.advance(DETECT, "another", "topic-1", {0: 100})
    assert await load(offsets) == {0: 4, 3: 7, 5: 0}
    assert await offsets.load(DETECT, TOPIC, "topic-1", [3]) == {3: 7}


async def test_they_never_go_back(offsets: ConsumerOffsets) -> None:
    """A member that lost its partitions may report late."""
    await offsets.advance(DETECT, TOPIC, "topic-1", {0: 9, 1: 9})
    await offsets.advance(DETECT, TOPIC, "topic-1", {0: 5, 1: 10})
    assert await load(offsets) == {0: 9, 1: 10}


async def test_those_of_a_topic_that_was_created_anew_begin_again(offsets: ConsumerOffsets) -> None:
    await offsets.advance(DETECT, TOPIC, "topic-1", {0: 9})
    assert await load(offsets, "topic-2") == {}
    await offsets.advance(DETECT, TOPIC, "topic-2", {0: 1})
    assert await load(offsets, "topic-2") == {0: 1}
    assert await load(offsets) == {}


def announced(*numbers: int, late: int = 0) -> list[MediaIngested]:
    """A photo is announced with the time at which it was; `late` seconds later it is announced again."""
    messages = []
    for n in numbers:
        message = MediaIngested(media=detected(n, n * 100).media)
        message.media.ingested_at.seconds += late
        messages.append(message)
    return messages


async def first(bus: Bus, store: Recorded, topic: Topic[MediaIngested]) -> dict[int, int]:
    offsets = ConsumerOffsets(store.database)
    await ensure_detect_offsets(bus, store.database, offsets, topic)
    return await offsets.load(DETECT, topic.name, await bus.topic_id(topic), range(bus.partitions(topic)))


async def test_without_any_they_follow_what_is_recorded(bus: Bus, store: Recorded) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *announced(*range(8)))
    # 0 and 2 were rejected or are dead letters; 4 and 5 are not recorded yet; 6 and 7 are not detected.
    await store.detect(detected(1, 100), detected(3, 300))
    assert await first(bus, store, topic) == {0: 4}


async def test_a_repeated_announcement_of_a_recorded_photo_says_nothing(bus: Bus, store: Recorded) -> None:
    """What lies before it may not have been detected."""
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *announced(0, 1), *announced(2, 3), *announced(0, late=60))
    await store.detect(detected(0, 0), detected(1, 100))
    assert await first(bus, store, topic) == {0: 2}


async def test_partitions_without_recorded_photos_begin_at_the_beginning(bus: Bus, store: Recorded) -> None:
    topic = await media_topic(bus, partitions=3)
    broken = MediaIngested()
    broken.media.id, broken.media.camera_id = "no id at all", "x"
    await bus.publish(topic, *announced(0), broken)
    assert await first(bus, store, topic) == {0: 0, 1: 0, 2: 0}


async def test_those_that_are_known_stay(bus: Bus, store: Recorded) -> None:
    topic, offsets = await media_topic(bus, partitions=1), ConsumerOffsets(store.database)
    await bus.publish(topic, *announced(*range(4)))
    await store.detect(detected(3, 300))
    await offsets.advance(DETECT, topic.name, await bus.topic_id(topic), {0: 1})
    assert await first(bus, store, topic) == {0: 1}


async def test_a_long_log_is_read_in_parts(
    bus: Bus, store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store_svc.first_offsets.CHUNK", 3)
    topic = await media_topic(bus, partitions=2)
    await bus.publish(topic, *announced(*range(20)))
    await store.detect(*(detected(n, n * 100) for n in range(17)))
    assert sorted((await first(bus, store, topic)).values()) == [0, 17]
