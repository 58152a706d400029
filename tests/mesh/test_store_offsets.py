"""Offsets in the database, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.bus import Bus
from mesh.problems import Conflict
from store_svc.offsets import Move, Offsets, OffsetsMoved, moves
from tests.support.facts import deliveries, detected, found, opened_by
from tests.support.recorded import FakeStream, Recorded, open_recorded, sequences
from tests.support.records import media_topic, unique, write_raw
from tests.support.waiting import until_async

TOPIC = "detect.detections.v1"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def advance(store: Recorded, offsets: Offsets, *moved: Move) -> None:
    await store.database.transaction(lambda connection: offsets.advance(connection, TOPIC, "topic-1", moved))
    offsets.committed(TOPIC, moved)


async def load(offsets: Offsets, *partitions: int) -> dict[int, int]:
    return await offsets.load(TOPIC, "topic-1", partitions)


class TestOffsets:
    async def test_a_partition_that_was_never_read_is_absent(self, store: Recorded) -> None:
        assert await load(store.offsets, 0, 1) == {}

    async def test_are_kept_by_partition(self, store: Recorded) -> None:
        await advance(store, store.offsets, Move(0, 0, 3), Move(4, 100, 101))
        await advance(store, store.offsets, Move(0, 5, 9))  # records 3 and 4 do not exist
        assert await load(store.offsets, 0, 1, 4) == {0: 9, 4: 101}

    async def test_of_another_topic_id_are_refused(self, store: Recorded) -> None:
        await advance(store, store.offsets, Move(0, 0, 3))
        with pytest.raises(Conflict) as refusal:
            await store.offsets.load(TOPIC, "topic-2", [0])
        assert refusal.value.reason == "TOPIC_REPLACED"

    async def test_are_each_consumers_and_topics_own(self, store: Recorded) -> None:
        await advance(store, store.offsets, Move(0, 0, 3))
        assert await load(Offsets(store.database, "other"), 0) == {}
        assert await store.offsets.load("another.topic", "topic-9", [0]) == {}

    async def test_moved_by_another_process_raise(self, store: Recorded) -> None:
        other = Offsets(store.database, "store_svc")
        await advance(store, store.offsets, Move(0, 0, 3))
        await load(other, 0)
        await advance(store, other, Move(0, 3, 7))
        with pytest.raises(OffsetsMoved):
            await advance(store, store.offsets, Move(0, 3, 5))
        assert await load(store.offsets, 0) == {0: 7}

    async def test_a_partition_that_another_process_has_begun_raises(self, store: Recorded) -> None:
        other = Offsets(store.database, "store_svc")
        await advance(store, other, Move(0, 0, 3))
        with pytest.raises(OffsetsMoved):
            await advance(store, store.offsets, Move(0, 0, 5))

    async def test_one_of_several_that_was_moved_raises(self, store: Recorded) -> None:
        other = Offsets(store.database, "store_svc")
        await advance(store, store.offsets, Move(0, 0, 3), Move(1, 0, 3))
        await load(other, 0, 1)
        await advance(store, other, Move(1, 3, 4))
        with pytest.raises(OffsetsMoved):
            await advance(store, store.offsets, Move(0, 3, 5), Move(1, 3, 5))
        assert await load(store.offsets, 0, 1) == {0: 3, 1: 4}

    async def test_records_from_before_the_partition_was_loaded_again_raise(self, store: Recorded) -> None:
        other = Offsets(store.database, "store_svc")
        await advance(store, other, Move(0, 0, 20))
        await load(store.offsets, 0)
        with pytest.raises(OffsetsMoved):
            await advance(store, store.offsets, Move(0, 10, 15))
        assert await load(store.offsets, 0) == {0: 20}


class TestRecordsWithoutEffect:
    """Those that cannot be decoded, or are for another service: no transaction moves the offset past them."""

    async def test_at_the_end_of_a_partition_are_passed(self, store: Recorded) -> None:
        await advance(store, store.offsets, Move(0, 0, 3))
        await store.offsets.save(TOPIC, "topic-1", {0: 4, 1: 1, 2: 0})
        assert await load(store.offsets, 0, 1, 2) == {0: 4, 1: 1}
        await advance(store, store.offsets, Move(0, 4, 6), Move(1, 1, 2))
        assert await load(store.offsets, 0, 1) == {0: 6, 1: 2}

    async def test_move_nothing_back(self, store: Recorded) -> None:
        await advance(store, store.offsets, Move(0, 0, 9))
        await store.offsets.save(TOPIC, "topic-1", {0: 7})
        assert await load(store.offsets, 0) == {0: 9}

    async def test_are_left_to_the_process_that_has_the_partition_now(self, store: Recorded) -> None:
        other = Offsets(store.database, "store_svc")
        await advance(store, store.offsets, Move(0, 0, 3), Move(1, 0, 3))
        await load(other, 0, 1)
        await advance(store, other, Move(0, 3, 7))
        await store.offsets.save(TOPIC, "topic-1", {0: 4, 1: 4})
        assert await load(store.offsets, 0, 1) == {0: 7, 1: 3}

    async def test_do_not_count_as_lag_for_a_store_that_does_not_read_the_partition(
        self, bus: Bus, kafka_url: str, store: Recorded
    ) -> None:
        """Otherwise it would never have read all facts: it would lease no jobs and close no events."""
        topic, service = await media_topic(bus, partitions=1), unique("svc")
        await bus.create_topics([], [service])
        await write_raw(kafka_url, topic.name, b"\xff\xffnot protobuf", b"cam")
        elsewhere = Offsets(store.database, service)
        async with bus.consume(topic, service, offsets=Offsets(store.database, service)):
            topic_id = await bus.topic_id(topic)
            await until_async(lambda: elsewhere.load(topic.name, topic_id, [0]))
        assert await elsewhere.load(topic.name, topic_id, [0]) == {0: 1}


def test_moves_tell_first_and_next_by_partition() -> None:
    batch = [
        *deliveries(TOPIC, detected(1, 0), detected(2, 0), first=5, partition=3),
        *deliveries(TOPIC, detected(3, 0), first=9, partition=1),
    ]
    assert moves(batch) == [Move(1, 9, 10), Move(3, 5, 7)]


class TestTwoWriters:
    async def test_of_one_partition_record_each_once(self, store: Recorded) -> None:
        """Both read the same log at once, as in a rebalance; the loser seeks to the offset of the winner."""
        log = [detected(n, n * 100) for n in range(30)]
        pair = [Recorded(store.database), Recorded(store.database)]
        await asyncio.gather(*(self._read(each, log) for each in pair))
        assert await store.members() == {opened_by(n): [found(n)] for n in range(30)}
        assert sequences(await store.feed()) == list(range(1, 31))
        assert await load(store.offsets, 0) == {0: 30}

    @staticmethod
    async def _read(store: Recorded, log: list[MediaDetected]) -> None:
        at = 0
        while at < len(log):
            batch = log[at : at + 3]
            await store.detect(*batch, first=at)
            at = store.detections.sought.pop(0, at + len(batch))

    async def test_the_loser_writes_nothing_and_seeks_back(self, store: Recorded) -> None:
        loser = Recorded(store.database)
        await loser.detect(detected(1, 0))
        await load(store.offsets, 0)
        await store.detect(detected(2, 100), first=1)
        await loser.detect(detected(2, 100), detected(3, 500), first=1)
        assert loser.detections.sought == {0: 2}
        assert len(loser.detections.finished) == 1
        assert await store.counts("media") == [2]
        await loser.detect(detected(3, 500), first=2)
        assert await store.counts("media") == [3]

    async def test_all_partitions_of_the_batch_are_sought_back(self, store: Recorded) -> None:
        """Nothing of the batch was written, so all of it must be delivered again."""
        await store.detect(detected(1, 0), partition=0)
        loser = Recorded(store.database)
        batch = [
            *loser.batch(TOPIC, [detected(1, 0)], 0, 0),
            *loser.batch(TOPIC, [detected(1, 0, camera="back")], 1, 7),
        ]
        stream = FakeStream()
        await loser.detected.process(stream, batch)  # type: ignore[arg-type]
        assert stream.sought == {0: 1, 1: 7}
        assert await store.counts("media") == [1]
