"""Reads a topic as a member of a group and tracks every record until it is done."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Generic

import structlog
from aiokafka.errors import KafkaError
from prometheus_client.core import Metric

from mesh.bus.cluster import BACKOFF, PATIENCE_SECONDS, Cluster, unavailable
from mesh.bus.group_member import GroupMember, GroupSubscription
from mesh.bus.measures import CONSUMER_BATCH, CONSUMER_LAG, CONSUMER_SECONDS, CONSUMER_UNFINISHED
from mesh.bus.publisher import Publisher
from mesh.bus.record import dead_letter, encode, inherited
from mesh.bus.record_tracker import RecordTracker
from mesh.bus.stall_detector import CHECK_SECONDS, StallDetector
from mesh.delivery import Delivery, Output
from mesh.problems import Problem, Unavailable
from mesh.task_group import task_group, until_first_ends
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.spans import end_spans
from mesh.topics import M

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 0.25
# Between copies of offsets to Kafka that are stored elsewhere.
COPY_SECONDS = 5.0
# While records are waiting, outputs are gathered: fewer requests matter more than the delay of a record, but
# not much more than that of an urgent one.
GATHER_SECONDS, URGENT_SECONDS = 1.0, 0.2
CLOSE_SECONDS = 3.0
# For the lag that is a part of a service's state: whoever asks wants to know the rest soon.
STATUS_SECONDS = 1.0


class Stream(Generic[M]):
    """Delivers each record at least once: a record that is not done when its partition moves to another
    member, or when the process ends, is delivered again.

    At most `buffer` records are fetched and not done at a time, and a few times as many with those that are
    done and wait for others before them. A worker that keeps that many stops the fetching.
    """

    def __init__(
        self,
        cluster: Cluster,
        publisher: Publisher,
        subscription: GroupSubscription[M],
        buffer: int,
        metrics: Metrics,
    ) -> None:
        self._batch_sizes = metrics.histogram(CONSUMER_BATCH).labels(subscription.topic.name)
        self.topic_id = subscription.topic_id
        self._cluster, self._publisher, self._subscription = cluster, publisher, subscription
        seconds = metrics.histogram(CONSUMER_SECONDS).labels(subscription.topic.name)
        self._tracker = RecordTracker[M](buffer, seconds.observe)
        self._member = GroupMember(cluster, subscription, self._tracker, self._settle)
        self._publishing = asyncio.Lock()
        self._committed: dict[int, int] = {}
        self._saved: dict[int, int] = {}
        self._failure: BaseException | None = None
        self._closed = False

    async def batches(self, max_records: int, linger: float = 0.0) -> AsyncIterator[list[Delivery[M]]]:
        """Yields batches of 1 to `max_records` records. After a batch's first record, waits up to `linger`
        seconds for more.

        Records of one partition are in log order. Records that retention deleted unread are skipped, with
        an error in the log. Waits while the cluster is not available. Ends when the stream's block ends.

        Raises Conflict OFFSET_OUT_OF_RANGE if the log ends before the next record, which means that it is
        another log; Denied, NotFound.
        """
        while not self._closed:
            if batch := await self._batch(max_records, linger):
                self._batch_sizes.observe(len(batch))
                yield batch

    async def _batch(self, max_records: int, linger: float) -> list[Delivery[M]]:
        """Returns an empty batch only when the stream ends."""
        batch: list[Delivery[M]] = []
        deadline: float | None = None
        while not self._closed:
            if self._failure is not None:
                raise self._failure
            batch += self._tracker.take(max_records - len(batch))
            if len(batch) == max_records:
                break
            if batch and deadline is None:
                deadline = asyncio.get_running_loop().time() + linger
            try:
                async with asyncio.timeout_at(deadline):
                    await self._tracker.arrived.wait()
            except TimeoutError:
                break
        return batch

    def done(self, delivery: Delivery[M], *outputs: Output, urgent: bool = True) -> None:
        """Marks a record as processed. Its `outputs` are published with its request id and trace: those of an
        urgent record soon, others within about a second.

        Records may be done in any order. Outputs are published in the order of the records within each
        partition, and a record is committed when it and all before it are done and their outputs durable.
        Does nothing if the record's partition is no longer assigned to this stream.

        Raises Invalid if an output is not of its topic's type, or too large.
        """
        headers = inherited(delivery)
        encoded = tuple(encode(topic, message, headers) for topic, message in outputs)
        self._tracker.done(delivery, encoded, urgent)

    def holds(self, delivery: Delivery[M]) -> bool:
        """Whether marking this record as done would still count: its partition has not moved, and it is not
        done."""
        return self._tracker.find(delivery) is not None

    async def bury(self, delivery: Delivery[M], reason: str, *outputs: Output, attempts: int = 1) -> None:
        """Puts a record that can never be processed into the group's dead letters, with its original bytes,
        and then marks it as done with `outputs`. `reason` is in UPPER_SNAKE_CASE. Raises Unavailable."""
        tracked = self._tracker.find(delivery)
        if tracked is not None:
            letter = dead_letter(tracked.record, self._subscription.group, reason, attempts)
            await self._publisher.send([letter])
            self.done(delivery, *outputs)

    async def lag(self, patience: float = PATIENCE_SECONDS) -> int:
        """Returns how many records of all partitions are not done for this group.

        0 means that all records that were in the topic at the time of the call are done and their outputs
        durable. Raises Unavailable after `patience` seconds.
        """
        try:
            async with asyncio.timeout(patience):
                return await self.behind(await self.ends())
        except TimeoutError:
            raise unavailable(self._cluster.access.failure) from None

    async def behind(self, ends: Mapping[int, int]) -> int:
        """Returns how many records before `ends` (a result of `ends()`) are not done for this group. Raises
        Unavailable."""
        await self._pass_gaps()
        at = self.positions()
        if ends.keys() - at.keys():
            others = await self._subscription.committed(self._cluster, ends.keys() - at.keys())
            at = await self._cluster.beginnings(self._subscription.topic.name) | others | self.positions()
        return sum(max(0, end - at[partition]) for partition, end in ends.items())

    async def ends(self) -> dict[int, int]:
        """Returns, by partition, the offset that the next record will get. Raises Unavailable."""
        ends = await self._cluster.ends(self._subscription.topic.name)
        await self._pass_gaps()
        return ends

    async def measure(self) -> list[Metric]:
        """Raises Unavailable."""
        topic, ends, positions = self._subscription.topic.name, await self.ends(), self.positions()
        lags = {
            (topic, str(partition)): float(max(0, ends[partition] - at))
            for partition, at in positions.items()
        }
        unfinished = {(topic,): float(self._tracker.unfinished)}
        return [CONSUMER_LAG.family(lags), CONSUMER_UNFINISHED.family(unfinished)]

    async def _pass_gaps(self) -> None:
        """Counts offsets as done that the consumer has passed and that hold no record."""
        for partition, position in (await self._member.positions()).items():
            self._tracker.skip(partition, position)

    def positions(self) -> dict[int, int]:
        """Returns, for each partition assigned to this stream, the next offset that is not done."""
        return self._tracker.positions()

    def processed(self) -> dict[int, int]:
        """Returns, for each partition assigned to this stream, where it would stand if the records that are
        done were the first ones. What followed from some of them may not be durable yet."""
        return self._tracker.processed()

    async def seek(self, partition: int, offset: int) -> None:
        """Continues at `offset`. Records of the partition that were delivered before can no longer be done.
        Does nothing if the partition is not assigned to this stream."""
        if partition in self._tracker.assigned():
            self._member.start_at(partition, offset)

    async def run(self) -> None:
        """Runs the stream's own tasks. The first failure is raised from `batches`."""
        tasks = [self._read(), self._publish(), self._commit(), self._copy()]
        try:
            async with task_group() as group:
                for task in tasks:
                    group.create_task(task)
        except Exception as failure:
            self._failure = failure
            self._tracker.arrived.set()

    async def close(self, running: "asyncio.Task[None]") -> None:
        """Publishes and commits what is done, if that succeeds within 3 s, and leaves the group."""
        self._closed = True
        self._tracker.arrived.set()
        with suppress(TimeoutError, Problem):
            await asyncio.wait_for(self._settle(), CLOSE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._member.leave()

    async def _read(self) -> None:
        topic, group, failures = self._subscription.topic.name, self._subscription.group, 0
        while True:
            try:
                await self._member.join()
                await until_first_ends(self._member.read(), self._member.position(), self._wait_for_stall())
                log.warning("consumer stalled, joining again", topic=topic, group=group)
            except (KafkaError, OSError) as error:
                log.warning("consumer failed, joining again", topic=topic, group=group, error=repr(error))
            failures = 1 if self._member.joined else failures + 1
            self._committed.clear()
            self._saved.clear()
            await self._member.leave()
            await asyncio.sleep(BACKOFF.pause(failures))

    async def _wait_for_stall(self) -> None:
        loop, detector = asyncio.get_running_loop(), StallDetector()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._pass_gaps()
            ends = self._member.fetched_ends(loop.time())
            try:
                ends = await self._cluster.ends(self._subscription.topic.name) if ends is None else ends
            except Problem:
                detector.reset()
                continue
            if self._member.joined:
                positions = await self._member.positions()
                stalled = detector.stalled(loop.time(), positions, ends, self._member.complete_polls)
            else:
                stalled = detector.unjoined(loop.time())
            if stalled:
                return

    async def _publish(self) -> None:
        while True:
            await self._tracker.publishable.wait()
            await self._gather()
            self._tracker.publishable.clear()
            try:
                await self._flush()
            except Unavailable as problem:
                topic = self._subscription.topic.name
                log.warning("outputs not published, retrying", topic=topic, error=problem.message)
                self._tracker.publishable.set()

    async def _gather(self) -> None:
        """Waits until outputs should be published: those of an urgent record at once if no other record is
        waiting to be processed, otherwise soon; others once there are many of them."""
        loop, tracker = asyncio.get_running_loop(), self._tracker
        began = loop.time()
        while not (tracker.urgent and tracker.taken.is_set()):
            with suppress(TimeoutError):
                async with asyncio.timeout(URGENT_SECONDS):
                    await tracker.gathered.wait()
                    return
            if loop.time() - began >= (URGENT_SECONDS if tracker.urgent else GATHER_SECONDS):
                return

    async def _flush(self) -> None:
        """Makes the outputs of done records durable. Runs once at a time, so that they stay in order."""
        async with self._publishing:
            ready = list(self._tracker.ready())
            outputs = [o for _, _, records in ready for record in records for o in record.outputs or ()]
            await self._publisher.send(outputs)
            end_spans(output.span for output in outputs)
            for partition, generation, records in ready:
                self._tracker.finish(partition, generation, len(records))

    async def _commit(self) -> None:
        failures = 0
        while True:
            await self._tracker.moved.wait()
            self._tracker.moved.clear()
            await asyncio.sleep(COMMIT_SECONDS)
            if await self._commit_positions():
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(BACKOFF.pause(failures))
                self._tracker.moved.set()

    async def _copy(self) -> None:
        """Copies offsets that are stored elsewhere to Kafka. Only tools need them, so failures do not
        matter."""
        if self._subscription.offsets is None:
            return
        while True:
            await asyncio.sleep(COPY_SECONDS)
            await self._commit_to_kafka()

    async def _commit_positions(self) -> bool:
        """Returns whether the current positions are stored."""
        if self._subscription.offsets is None:
            return await self._commit_to_kafka()
        moved = self._moved_since(self._saved)
        if moved:
            try:
                await self._subscription.save(moved)
            except Problem as problem:
                if not self._closed:  # the store may close first, and does not have to know
                    topic = self._subscription.topic.name
                    log.warning("positions not stored, retrying", topic=topic, error=problem.message)
                return False
        self._saved |= moved
        return True

    async def _commit_to_kafka(self) -> bool:
        """Returns whether Kafka has the current positions."""
        moved = self._moved_since(self._committed)
        if moved and not await self._member.commit(moved):
            return False
        self._committed |= moved
        return True

    def _moved_since(self, stored: Mapping[int, int]) -> dict[int, int]:
        return {p: at for p, at in self._tracker.positions().items() if stored.get(p) != at}

    async def _settle(self) -> None:
        await self._flush()
        await self._commit_positions()
        if self._subscription.offsets is not None:
            await self._commit_to_kafka()


@asynccontextmanager
async def open_stream(
    cluster: Cluster,
    publisher: Publisher,
    subscription: GroupSubscription[M],
    buffer: int,
    metrics: Metrics,
) -> AsyncIterator[Stream[M]]:
    stream = Stream(cluster, publisher, subscription, buffer, metrics)
    task = asyncio.create_task(stream.run(), name=f"{subscription.group} reads {subscription.topic.name}")
    try:
        with metrics.sampling(stream.measure):
            yield stream
    finally:
        # Shielded, because a member that does not leave keeps its partitions.
        await asyncio.shield(asyncio.create_task(stream.close(task)))
