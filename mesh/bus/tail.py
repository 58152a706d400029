"""Reading a topic without a group: every partition, from a place of one's own choice."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from google.protobuf.message import DecodeError

from mesh.bus.aiokafka_internals import stop_consumer
from mesh.bus.cluster import RETRY_SECONDS, Cluster
from mesh.bus.group_member import out_of_range
from mesh.bus.record import decode
from mesh.bus.stall_detector import LOOK_SECONDS, StallDetector
from mesh.delivery import Delivery, Start
from mesh.problems import Denied, Invalid, Problem
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

POLL_MS = 500
CHUNK = 500


class Tail(Generic[M]):
    """Iterate it in one task. Records of one partition come in log order; it ends with its block, not before.

    Undecodable records are logged and passed over. Raises Conflict (OFFSET_OUT_OF_RANGE) where the log no
    longer holds the next record; a cluster that is away only makes it wait.
    """

    def __init__(
        self, cluster: Cluster, topic: Topic[M], positions: dict[int, int], ends: dict[int, int]
    ) -> None:
        self._cluster, self._topic = cluster, topic
        self._positions = positions  # the next offset to hand out
        self._missing = {partition: end for partition, end in ends.items() if end > positions[partition]}
        self._caught_up = asyncio.Event()
        self._note()
        self._closed = asyncio.Event()
        self._fetched: deque[Any] = deque()
        self._consumer: Any = None
        self._emptied = 0
        self._stall_detector = StallDetector()
        self._look_at = 0.0

    def __aiter__(self) -> AsyncIterator[Delivery[M]]:
        return self

    async def __anext__(self) -> Delivery[M]:
        while not self._closed.is_set():
            self._note()
            if not self._fetched:
                await self._fetch()
                continue
            record = self._fetched.popleft()
            self._positions[record.partition] = record.offset + 1
            try:
                return decode(self._topic, record)
            except DecodeError as error:
                where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                log.error("undecodable record passed over", error=str(error), **where)
        raise StopAsyncIteration

    async def caught_up(self) -> None:
        """Returns when all that was in the topic at entry has been iterated over, the last of it processed
        (that is: the next one was asked for). It needs another task that iterates."""
        await self._caught_up.wait()

    def _note(self) -> None:
        for partition, end_at in list(self._missing.items()):
            if self._positions[partition] >= end_at:
                del self._missing[partition]
        if not self._missing:
            self._caught_up.set()

    async def _fetch(self) -> None:
        try:
            if self._consumer is None:
                await self._open()
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=CHUNK)
            for records in fetched.values():
                self._fetched.extend(records)
            if not fetched and not self._closed.is_set():
                self._emptied += 1
                await self._look()
        except OffsetOutOfRangeError as error:
            ((at, offset),) = error.args[0].items()
            raise out_of_range(at.topic, at.partition, offset, "this reader") from None
        except TopicAuthorizationFailedError as error:
            raise Denied(f"Kafka refuses us: {error}", "BUS_DENIED") from None
        except (KafkaError, OSError) as error:
            log.warning("reader failed: opening it anew", topic=self._topic.name, error=repr(error))
            await self._reopen()

    async def _open(self) -> None:
        partitions = {TopicPartition(self._topic.name, number): at for number, at in self._positions.items()}
        consumer = AIOKafkaConsumer(
            group_id=None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=1000,
            **self._cluster.address.options("tail"),
        )
        try:
            await consumer.start()
            consumer.assign(list(partitions))
            for partition, at in partitions.items():
                consumer.seek(partition, at)
        except BaseException:
            await stop_consumer(consumer)
            raise
        self._consumer = consumer

    async def _look(self) -> None:
        """Everything fetched is handed out: if there is more and it does not come, starts over."""
        now = asyncio.get_running_loop().time()
        for number in self._positions:  # past what holds no record, such as a compacted stretch
            self._positions[number] = await self._consumer.position(TopicPartition(self._topic.name, number))
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            ends = await self._cluster.ends(self._topic.name)
        except Problem:
            self._stall_detector.reset()
            return
        if self._stall_detector.stalled(now, self._positions, ends, self._emptied):
            log.warning("reader stalled: opening it anew", topic=self._topic.name)
            await self._reopen()

    async def _reopen(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._stall_detector.reset()
        if consumer is not None:
            await stop_consumer(consumer)
        await asyncio.sleep(RETRY_SECONDS)

    async def open(self) -> None:
        while self._consumer is None:
            try:
                await self._open()
            except (KafkaError, OSError) as error:
                log.warning("reader not open", topic=self._topic.name, error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        self._closed.set()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)


@asynccontextmanager
async def open_tail(cluster: Cluster, topic: Topic[M], start: Start) -> AsyncIterator[Tail[M]]:
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
