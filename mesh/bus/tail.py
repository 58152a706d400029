"""Reads all partitions of a topic without a group, from a position that the caller chooses."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from google.protobuf.message import DecodeError

from mesh.bus.aiokafka_internals import stop_consumer
from mesh.bus.cluster import BACKOFF, NOT_ALLOWED, Cluster, denied
from mesh.bus.group_member import out_of_range
from mesh.bus.record import decode
from mesh.bus.stall_detector import FetchedEnds, StallDetector
from mesh.delivery import Delivery, Start
from mesh.problems import Invalid, Problem
from mesh.retry import retry
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

# How long the broker holds a fetch while there is nothing new.
FETCH_MS = 5000
POLL_MS = 2000
CHUNK = 500


class Tail(Generic[M]):
    """Iterates over records; only one task may iterate. Ends only when its block ends.

    Records of one partition are in log order. Records that cannot be decoded are logged and skipped. Waits
    while the cluster is not available. Raises Conflict OFFSET_OUT_OF_RANGE if the log no longer has the
    next record.
    """

    def __init__(
        self, cluster: Cluster, topic: Topic[M], positions: dict[int, int], ends: dict[int, int]
    ) -> None:
        self._cluster, self._topic = cluster, topic
        self._positions = positions  # the next offset to yield
        self._missing = {partition: end for partition, end in ends.items() if end > positions[partition]}
        self._caught_up = asyncio.Event()
        self._note_progress()
        self._closed = asyncio.Event()
        self._fetched: deque[Any] = deque()
        self._consumer: Any = None
        self._complete_polls = 0
        self._failures = 0
        self._ends, self._stall_detector = FetchedEnds(topic.name, FETCH_MS / 1000), StallDetector()

    def __aiter__(self) -> AsyncIterator[Delivery[M]]:
        return self

    async def __anext__(self) -> Delivery[M]:
        while not self._closed.is_set():
            self._note_progress()
            if (delivery := await self._next()) is not None:
                return delivery
        raise StopAsyncIteration

    async def present(self) -> AsyncIterator[Delivery[M]]:
        """Yields the records up to the last one that was in the topic when the block was entered, in any case
        of it; some that were written later may be among them. Another task must not iterate."""
        self._note_progress()
        while not self._caught_up.is_set() and not self._closed.is_set():
            if (delivery := await self._next()) is not None:
                yield delivery
            self._note_progress()

    async def _next(self) -> Delivery[M] | None:
        """Returns None if it has fetched instead, or skipped a record that cannot be decoded."""
        if not self._fetched:
            await self._fetch()
            return None
        record = self._fetched.popleft()
        self._positions[record.partition] = record.offset + 1
        try:
            return decode(self._topic, record)
        except DecodeError as error:
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.error("record not decodable, skipped", error=str(error), **where)
            return None

    def positions(self) -> dict[int, int]:
        """Returns, by partition, the offset of the next record to yield."""
        return dict(self._positions)

    async def caught_up(self) -> None:
        """Waits until all records that were in the topic when the block was entered have been processed,
        which means that the record after them has been requested. Another task has to iterate."""
        await self._caught_up.wait()

    def _note_progress(self) -> None:
        for partition, end in list(self._missing.items()):
            if self._positions[partition] >= end:
                del self._missing[partition]
        if not self._missing:
            self._caught_up.set()

    async def _fetch(self) -> None:
        try:
            if self._consumer is None:
                await self._open_consumer()
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=CHUNK)
            for records in fetched.values():
                self._fetched.extend(records)
            self._failures = 0
            if not fetched and not self._closed.is_set():
                self._complete_polls += 1
                await self._check_for_stall()
        except OffsetOutOfRangeError as error:
            ((at, offset),) = error.args[0].items()
            raise out_of_range(at.topic, at.partition, offset, "this reader") from None
        except NOT_ALLOWED as error:
            raise denied(error) from None
        except (KafkaError, OSError) as error:
            log.warning("consumer failed, opening another", topic=self._topic.name, error=repr(error))
            await self._close_consumer()

    async def _open_consumer(self) -> None:
        partitions = {TopicPartition(self._topic.name, number): at for number, at in self._positions.items()}
        consumer = AIOKafkaConsumer(
            group_id=None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_MS,
            consumer_timeout_ms=FETCH_MS,
            **self._cluster.access.options("tail"),
        )
        try:
            await consumer.start()
            consumer.assign(list(partitions))
            for partition, at in partitions.items():
                consumer.seek(partition, at)
        except (KafkaError, OSError) as error:
            await stop_consumer(consumer)
            raise self._cluster.access.explained(error) from None
        except BaseException:
            await stop_consumer(consumer)
            raise
        self._consumer = consumer

    async def _check_for_stall(self) -> None:
        """Closes the consumer if the topic has records that it does not fetch. Everything that it has fetched
        must have been yielded."""
        now = asyncio.get_running_loop().time()
        for number in self._positions:  # past offsets without a record, for example in a compacted log
            self._positions[number] = await self._consumer.position(TopicPartition(self._topic.name, number))
        ends = self._ends.read(now, self._consumer, self._positions)
        try:
            ends = await self._cluster.ends(self._topic.name) if ends is None else ends
        except Problem:
            self._stall_detector.reset()
            return
        if self._stall_detector.stalled(now, self._positions, ends, self._complete_polls):
            log.warning("consumer stalled, opening another", topic=self._topic.name)
            await self._close_consumer()

    async def _close_consumer(self) -> None:
        """The next `_fetch` opens another one."""
        consumer, self._consumer = self._consumer, None
        self._stall_detector.reset()
        if consumer is not None:
            await stop_consumer(consumer)
        self._failures += 1
        await asyncio.sleep(BACKOFF.pause(self._failures))

    async def open(self) -> None:
        await retry(
            self._open_consumer,
            f"open a consumer of {self._topic.name}",
            backoff=BACKOFF,
            retry_on=lambda error: isinstance(error, (KafkaError, OSError)),
        )

    async def close(self) -> None:
        self._closed.set()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)


@asynccontextmanager
async def open_tail(cluster: Cluster, topic: Topic[M], start: Start) -> AsyncIterator[Tail[M]]:
    """Raises NotFound if there is no such topic, and Invalid if `start` is a time without a zone."""
    await cluster.topic(topic.name)
    ends = await cluster.ends(topic.name)
    if start == "end":
        positions = dict(ends)
    elif start == "beginning":
        positions = await cluster.beginnings(topic.name)
    elif start.tzinfo is None:
        raise Invalid("a time to start at needs a time zone", "NAIVE_TIME")
    else:
        positions = await cluster.since(topic.name, start)
    tail = Tail(cluster, topic, positions, ends)
    try:
        await tail.open()
        yield tail
    finally:
        await tail.close()
