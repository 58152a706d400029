"""A member of a consumer group: joins, fetches records into the tracker, commits positions and leaves."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    InvalidSessionTimeoutError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from google.protobuf.message import DecodeError

from mesh.bus.aiokafka_internals import stop_consumer, wake_fetcher
from mesh.bus.cluster import NOT_ALLOWED, Cluster, denied
from mesh.bus.record import dead_letter, decode, is_for
from mesh.bus.record_tracker import RecordTracker, TrackedRecord
from mesh.bus.stall_detector import FetchedEnds
from mesh.delivery import OffsetStore
from mesh.problems import Conflict, Invalid, Problem, Unavailable
from mesh.retry import Backoff
from mesh.topics import M, Topic

log = structlog.get_logger(__name__)

POLL_MS, POLL_LIMIT_MS = 2000, 60_000
# How often the consumer looks what it can fetch, although nothing has woken it.
LOOK_MS = 1000


class Timing(NamedTuple):
    """`fetch`: how long the broker holds a fetch while there is nothing new, in milliseconds like the others.
    After a rebalance, the first fetch may wait so long for the last one of before. `session`: after how long
    without a heartbeat it gives the member up."""

    fetch: int
    session: int
    heartbeat: int


# Members with a name have no others beside them to whom partitions move, and get theirs back by their name.
NAMELESS, NAMED = Timing(2000, 10_000, 3000), Timing(5000, 30_000, 9000)
# As long as every other request at least.
LEAST_REQUEST_MS = 20_000
COMMIT_SECONDS = 3.0
# While it is not known where to start.
POSITION_BACKOFF = Backoff(0.1, 1.0)
REVOKE_SECONDS = 2.0
UNDECODABLE = "UNDECODABLE"


def timing(instance: str | None, session_seconds: float | None) -> Timing:
    """That of a member with or without a name; `session_seconds` is the setting, if it is set."""
    usual = NAMELESS if instance is None else NAMED
    if session_seconds is None:
        return usual
    session = int(session_seconds * 1000)
    return usual._replace(session=session, heartbeat=session * 3 // 10)


@dataclass(frozen=True)
class GroupSubscription(Generic[M]):
    """The topic to read, the group to read it as, and the store of its offsets; None means Kafka.

    `instance` is the static name of the member, if it has one.
    """

    topic: Topic[M]
    topic_id: str
    group: str
    offsets: OffsetStore | None
    instance: str | None

    @property
    def group_id(self) -> str:
        """One Kafka group for each topic. In a common group, each stream that joins would interrupt all
        others."""
        return f"{self.group}:{self.topic.name}"

    async def committed(self, cluster: Cluster, partitions: Collection[int]) -> dict[int, int]:
        """Returns the next offset of each partition. A missing one means the beginning."""
        if self.offsets is not None:
            return await self.offsets.load(self.topic.name, self.topic_id, partitions)
        return await cluster.committed(self.group_id, self.topic.name)

    async def save(self, positions: Mapping[int, int]) -> None:
        """Stores the next offsets of done records, by partition. Raises Unavailable."""
        if self.offsets is not None:
            await self.offsets.save(self.topic.name, self.topic_id, positions)


class GroupMember(ConsumerRebalanceListener, Generic[M]):  # type: ignore[misc]
    """`settle` is awaited before partitions are given away; it publishes and commits what is done.

    `complete_polls` counts the polls that returned fewer records than there was room for.
    """

    def __init__(
        self,
        cluster: Cluster,
        subscription: GroupSubscription[M],
        tracker: RecordTracker[M],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._cluster, self._subscription = cluster, subscription
        self._tracker, self._settle = tracker, settle
        self._unpositioned: frozenset[int] = frozenset()
        # Set while `_unpositioned` is not empty, and while it is.
        self._assigned, self._positioned = asyncio.Event(), asyncio.Event()
        self._positioned.set()
        self._unknown = 0  # attempts in a row to learn where to start
        self._timing = timing(subscription.instance, cluster.access.settings.session_seconds)
        self._ends = FetchedEnds(subscription.topic.name, self._timing.fetch / 1000)
        self._committing: asyncio.Future[None] | None = None
        self.consumer: Any = None
        self.joined = False
        self.complete_polls = 0

    # aiokafka calls the next two methods. The whole group waits meanwhile, so they must not wait for `read`.

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self.joined = False
        if revoked:
            with suppress(TimeoutError, Problem):
                await asyncio.wait_for(self._settle(), REVOKE_SECONDS)
        self._tracker.revoke()
        self._wait_for_positions(frozenset())

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        if self.consumer is None:
            return
        # Records fetched before the partitions are positioned would be thrown away.
        self.consumer.pause(*assigned)
        self._wait_for_positions(frozenset(partition.partition for partition in assigned))
        self.joined = True

    def _wait_for_positions(self, partitions: frozenset[int]) -> None:
        self._unpositioned = partitions
        if partitions:
            self._assigned.set()
            self._positioned.clear()
        else:
            self._assigned.clear()
            self._positioned.set()

    async def join(self) -> None:
        """Raises KafkaError if the cluster cannot be reached."""
        self.consumer = AIOKafkaConsumer(
            group_id=self._subscription.group_id,
            group_instance_id=self._subscription.instance,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=self._timing.fetch,
            consumer_timeout_ms=LOOK_MS,
            max_partition_fetch_bytes=256 * 1024,
            max_poll_interval_ms=POLL_LIMIT_MS,
            session_timeout_ms=self._timing.session,
            heartbeat_interval_ms=self._timing.heartbeat,
            **self._cluster.access.options(self._subscription.group)
            # The broker answers a request to join only after it has given up members that died.
            | {"request_timeout_ms": max(2 * self._timing.session, LEAST_REQUEST_MS)},
        )
        try:
            await self.consumer.start()
        except (KafkaError, OSError) as error:
            raise self._cluster.access.explained(error) from None
        self.consumer.subscribe([self._subscription.topic.name], listener=self)

    async def leave(self) -> None:
        consumer, self.consumer = self.consumer, None
        self.joined = False
        self._wait_for_positions(frozenset())
        self._tracker.revoke()
        if consumer is not None:
            await asyncio.shield(asyncio.ensure_future(stop_consumer(consumer)))
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

    async def read(self) -> None:
        """Fetches while the tracker has room. Ends only with an exception."""
        while True:
            await self._positioned.wait()
            if self._tracker.room <= 0:
                await self._wait_for_room()
                continue
            room = self._tracker.room
            try:
                fetched = await self.consumer.getmany(timeout_ms=POLL_MS, max_records=room)
            except NoOffsetForPartitionError:
                continue  # aiokafka looked for a position before `start_at` has set it
            except OffsetOutOfRangeError as error:
                await self._skip_deleted_records(error)
            except NOT_ALLOWED as error:
                raise denied(error) from None
            except InvalidSessionTimeoutError:
                raise Invalid(
                    f"LARES_BUS_SESSION_SECONDS: Kafka does not allow {self._timing.session / 1000:g} s: its"
                    " limits are group.min.session.timeout.ms and group.max.session.timeout.ms",
                    "BAD_SETTING",
                ) from None
            else:
                self._track(fetched)
                if sum(map(len, fetched.values())) < room:
                    self.complete_polls += 1

    def _track(self, fetched: dict[Any, list[Any]]) -> None:
        for partition, records in fetched.items():
            generation = self._tracker.generation(partition.partition)
            if generation is not None:
                for record in records:
                    self._tracker.add(self._tracked(record, generation))

    def _tracked(self, record: Any, generation: int) -> TrackedRecord[M]:
        if not is_for(record, self._subscription.group):
            return TrackedRecord(record, None, ())
        try:
            return TrackedRecord(record, decode(self._subscription.topic, record, generation))
        except DecodeError as error:
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.error("record not decodable, moved to the dead letters", error=str(error), **where)
            letter = dead_letter(record, self._subscription.group, UNDECODABLE, 1)
            return TrackedRecord(record, None, (letter,))

    async def position(self) -> None:
        """Sets where to start in newly assigned partitions. Ends only with an exception."""
        while True:
            await self._assigned.wait()
            await self._position_partitions()

    async def _position_partitions(self) -> None:
        """Sets where to start in newly assigned partitions. Tries again later if the cluster does not answer
        or the assignment changes meanwhile."""
        partitions, name = self._unpositioned, self._subscription.topic.name
        try:
            positions = await self._subscription.committed(self._cluster, partitions)
            if partitions - positions.keys():
                positions = await self._cluster.beginnings(name) | positions
        except Unavailable as problem:
            group = self._subscription.group
            log.warning("offsets not available, retrying", topic=name, group=group, error=problem.message)
            self._unknown += 1
            await asyncio.sleep(POSITION_BACKOFF.pause(self._unknown))
            return
        self._unknown = 0
        if self._unpositioned is partitions:
            for partition in partitions:
                self.start_at(partition, positions[partition])
            self._wait_for_positions(frozenset())
            if self.consumer is not None:
                await wake_fetcher(self.consumer)

    def start_at(self, partition: int, offset: int) -> None:
        """Continues at `offset`. Does nothing if the partition has been reassigned to another member."""
        at = TopicPartition(self._subscription.topic.name, partition)
        if self.consumer is not None:
            with suppress(IllegalStateError):
                self.consumer.seek(at, offset)
                self.consumer.resume(at)
                self._tracker.assign(partition, offset)

    async def _wait_for_room(self) -> None:
        """Returns when a quarter of the capacity is free.

        The group expels a member that does not poll, so this pauses all partitions and polls meanwhile.
        """
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

    async def _skip_deleted_records(self, error: Any) -> None:
        """Continues at the oldest kept record if retention has deleted unread ones.

        Raises Conflict if the log ends before the offset, since it must then be another log.
        """
        ((at, first),) = error.args[0].items()
        topic, number, group = at.topic, at.partition, self._subscription.group
        generation = self._tracker.generation(number)
        if generation is None:
            return  # the offset is aiokafka's own, before `start_at` has set the position
        try:
            oldest = (await self._cluster.beginnings(topic))[number]
        except Unavailable as problem:
            # The next poll raises the same error again.
            log.warning("offsets not available, retrying", topic=topic, group=group, error=problem.message)
            return
        if first > oldest:
            raise out_of_range(topic, number, first, f"group {group}")
        if self._tracker.generation(number) == generation:
            where = {"topic": topic, "partition": number, "group": group, "first": first}
            log.error("unread records deleted by retention", lost=oldest - first, **where)
            self.consumer.seek(at, oldest)
            self._tracker.skip(number, oldest)

    async def commit(self, positions: dict[int, int]) -> bool:
        """Returns whether the group's coordinator has stored the positions."""
        if not await self._commit_ended() or self.consumer is None:
            return False
        name = self._subscription.topic.name
        offsets = {TopicPartition(name, partition): at for partition, at in positions.items()}
        self._committing = asyncio.ensure_future(self.consumer.commit(offsets))
        return await self._commit_ended()

    async def _commit_ended(self) -> bool:
        """Returns whether the commit in progress has succeeded, or there is none.

        A slow one is not cancelled, since aiokafka does not work correctly afterwards: it goes on, and the
        next call waits for it.
        """
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

    def fetched_ends(self, now: float) -> dict[int, int] | None:
        """Returns the ends of the assigned partitions by what was fetched, or None if only Kafka knows."""
        if self.consumer is None or not self.joined or self._unpositioned:
            return None
        return self._ends.read(now, self.consumer, self._tracker.assigned())

    async def positions(self) -> dict[int, int]:
        """Returns the next offset to fetch of each assigned partition."""
        positions: dict[int, int] = {}
        consumer, assigned = self.consumer, list(self._tracker.assigned())
        with suppress(KafkaError):
            for partition in assigned if consumer else ():
                at = TopicPartition(self._subscription.topic.name, partition)
                positions[partition] = await consumer.position(at)
        return positions


def out_of_range(topic: str, partition: int, offset: int, reader: str) -> Conflict:
    return Conflict(
        f"{topic}/{partition} does not have offset {offset}, which {reader} needs: the record was deleted, "
        "or the topic was created anew",
        "OFFSET_OUT_OF_RANGE",
        topic=topic,
        partition=str(partition),
        offset=str(offset),
    )
