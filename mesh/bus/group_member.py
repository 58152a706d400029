"""One member of a consumer group: joins it, keeps the tracker filled, and starts over when it stalls."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from google.protobuf.message import DecodeError

from mesh.bus.aiokafka_internals import stop_consumer
from mesh.bus.cluster import RETRY_SECONDS, Cluster
from mesh.bus.record import dead_letter, decode, is_for
from mesh.bus.record_tracker import RecordTracker, TrackedRecord
from mesh.delivery import OffsetStore
from mesh.problems import Conflict, Denied, Problem, Unavailable
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

# Partitions that were assigned wait for the next poll to be placed.
JOINING_POLL_MS, POLL_MS = 100, 500
POLL_LIMIT_MS = 60_000
SESSION_MS = 10_000
HEARTBEAT_MS = 3_000
REQUEST_MS = 2 * SESSION_MS  # a request to join is answered when members that died have been given up
COMMIT_SECONDS = 3.0
REVOKE_SECONDS = 2.0
UNDECODABLE = "UNDECODABLE"


@dataclass(frozen=True)
class GroupSubscription(Generic[M]):
    """Which records to read, in whose name, and who knows where to go on."""

    topic: Topic[M]
    topic_id: str
    group: str
    offsets: OffsetStore | None
    instance: str | None

    @property
    def group_id(self) -> str:
        """One Kafka group for each topic: in a common one each stream that joins would interrupt all
        others."""
        return f"{self.group}:{self.topic.name}"

    async def committed(self, cluster: Cluster, partitions: Collection[int]) -> dict[int, int]:
        """The next offset of each partition; an absent one means the beginning."""
        if self.offsets is not None:
            return await self.offsets.load(self.topic.name, self.topic_id, partitions)
        return await cluster.committed(self.group_id, self.topic.name)


class GroupMember(ConsumerRebalanceListener, Generic[M]):  # type: ignore[misc]
    """`settle` is awaited before partitions are given away: to publish and commit what is done."""

    def __init__(
        self,
        cluster: Cluster,
        subscription: GroupSubscription[M],
        tracker: RecordTracker[M],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._cluster, self._subscription, self._tracker, self._settle = (
            cluster,
            subscription,
            tracker,
            settle,
        )
        self._unpositioned: frozenset[int] = frozenset()
        self._committing: asyncio.Future[None] | None = None
        self.consumer: Any = None
        self.joined = False
        self.emptied = 0  # how often a poll brought all that there was

    # What aiokafka calls. It holds the group up meanwhile, so neither may wait for the reading.

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self.joined = False
        if revoked:
            with suppress(TimeoutError, Problem):
                await asyncio.wait_for(self._settle(), REVOKE_SECONDS)
        self._tracker.revoke()
        self._unpositioned = frozenset()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        if self.consumer is None:
            return
        self.consumer.pause(*assigned)  # until they are placed: what came before would be thrown away
        self._unpositioned = frozenset(partition.partition for partition in assigned)
        self.joined = True

    # The member's life.

    async def join(self) -> None:
        """Raises KafkaError while the cluster cannot be reached."""
        self.consumer = AIOKafkaConsumer(
            group_id=self._subscription.group_id,
            group_instance_id=self._subscription.instance,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=256 * 1024,
            max_poll_interval_ms=POLL_LIMIT_MS,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            **self._cluster.address.options(self._subscription.group) | {"request_timeout_ms": REQUEST_MS},
        )
        await self.consumer.start()
        self.consumer.subscribe([self._subscription.topic.name], listener=self)

    async def leave(self) -> None:
        consumer, self.consumer = self.consumer, None
        self.joined, self._unpositioned = False, frozenset()
        self._tracker.revoke()
        if consumer is not None:
            await asyncio.shield(asyncio.ensure_future(stop_consumer(consumer)))
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

    async def read(self) -> None:
        """Fetches as long as there is room. Returns by an exception only."""
        while True:
            if self._unpositioned:
                await self._position_partitions()
            if self._tracker.room <= 0:
                await self._wait_for_room()
                continue
            room, wait = self._tracker.room, POLL_MS if self.joined else JOINING_POLL_MS
            try:
                fetched = await self.consumer.getmany(timeout_ms=wait, max_records=room)
            except NoOffsetForPartitionError:
                continue  # aiokafka has looked before we have said where to begin
            except OffsetOutOfRangeError as error:
                await self._go_on_with_what_is_kept(error)
            except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
                raise Denied(f"Kafka refuses us: {error}", "BUS_DENIED") from None
            else:
                self._take(fetched)
                if sum(map(len, fetched.values())) < room:
                    self.emptied += 1

    def _take(self, fetched: dict[Any, list[Any]]) -> None:
        for partition, records in fetched.items():
            generation = self._tracker.generation(partition.partition)
            if generation is not None:
                for record in records:
                    self._tracker.add(self._entry(record, generation))

    def _entry(self, record: Any, generation: int) -> TrackedRecord[M]:
        if not is_for(record, self._subscription.group):
            return TrackedRecord(record, None, ())
        try:
            return TrackedRecord(record, decode(self._subscription.topic, record, generation))
        except DecodeError as error:
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.error("undecodable record", error=str(error), **where)
            return TrackedRecord(
                record, None, (dead_letter(record, self._subscription.group, UNDECODABLE, 1),)
            )

    async def _position_partitions(self) -> None:
        """Where to begin in what was assigned. Leaves it for the next time if that changes meanwhile."""
        partitions, name = self._unpositioned, self._subscription.topic.name
        try:
            begin = await self._subscription.committed(self._cluster, partitions)
            if partitions - begin.keys():
                begin = await self._cluster.beginnings(name) | begin
        except Unavailable as problem:
            log.warning(
                "positions unknown", topic=name, group=self._subscription.group, error=problem.message
            )
            await asyncio.sleep(RETRY_SECONDS)
            return
        if self._unpositioned is partitions:
            for partition in partitions:
                self.start_at(partition, begin[partition])
            self._unpositioned = frozenset()

    def start_at(self, partition: int, offset: int) -> None:
        """Goes on at `offset`; does nothing where the partition is somebody else's meanwhile."""
        at = TopicPartition(self._subscription.topic.name, partition)
        if self.consumer is not None:
            with suppress(IllegalStateError):
                self.consumer.seek(at, offset)
                self.consumer.resume(at)
                self._tracker.assign(partition, offset)

    async def _wait_for_room(self) -> None:
        """Returns when a quarter is free. A member that does not poll is put out of its group: it pauses, and
        polls."""
        drained = self._tracker.drained
        wanted = max(1, self._tracker.capacity // 4)
        while self._tracker.room < wanted:
            drained.clear()
            try:
                await asyncio.wait_for(drained.wait(), POLL_MS / 1000)
            except TimeoutError:
                self.consumer.pause(*self.consumer.assignment())
                await self.consumer.getmany(timeout_ms=0)
        self.consumer.resume(*self.consumer.paused())

    async def _go_on_with_what_is_kept(self, error: Any) -> None:
        """Retention has overtaken us. Raises Conflict where the log ends before the offset: another log."""
        ((at, first),) = error.args[0].items()
        topic, number, group = at.topic, at.partition, self._subscription.group
        generation = self._tracker.generation(number)
        if generation is None:
            return  # aiokafka's own idea of where to begin; ours comes
        try:
            oldest = (await self._cluster.beginnings(topic))[number]
        except Unavailable as problem:
            log.warning("positions unknown", topic=topic, group=group, error=problem.message)
            return  # and is told again
        if first > oldest:
            raise out_of_range(topic, number, first, f"group {group}")
        if self._tracker.generation(number) == generation:
            where = {"topic": topic, "partition": number, "group": group, "first": first}
            log.error("records lost: retention took them unread", lost=oldest - first, **where)
            self.consumer.seek(at, oldest)
            self._tracker.skip(number, oldest)

    async def commit(self, positions: dict[int, int]) -> bool:
        """Whether the group's coordinator has them."""
        if not await self._committed() or self.consumer is None:
            return False
        name = self._subscription.topic.name
        offsets = {TopicPartition(name, partition): at for partition, at in positions.items()}
        self._committing = asyncio.ensure_future(self.consumer.commit(offsets))
        return await self._committed()

    async def _committed(self) -> bool:
        """Whether the commit under way is through. One that takes long goes on, and is waited for the next
        time: aiokafka does not bear its being cancelled."""
        commit = self._committing
        if commit is None:
            return True
        await asyncio.wait([commit], timeout=COMMIT_SECONDS)
        if not commit.done():
            return False
        if self._committing is commit:
            self._committing = None
        error = None if commit.cancelled() else commit.exception()
        if error is not None:
            log.info("positions not committed", topic=self._subscription.topic.name, error=repr(error))
        return error is None and not commit.cancelled()

    async def positions(self) -> dict[int, int]:
        """By assigned partition, the offset to fetch next."""
        positions: dict[int, int] = {}
        consumer, assigned = self.consumer, list(self._tracker.assigned())
        with suppress(KafkaError):
            for partition in assigned if consumer else ():
                at = TopicPartition(self._subscription.topic.name, partition)
                positions[partition] = await consumer.position(at)
        return positions


def out_of_range(topic: str, partition: int, offset: int, who: str) -> Conflict:
    return Conflict(
        f"{topic}/{partition} has no offset {offset} for {who}: deleted, or another topic of that name",
        "OFFSET_OUT_OF_RANGE",
        topic=topic,
        partition=str(partition),
        offset=str(offset),
    )
