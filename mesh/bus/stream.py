"""Reading a topic in the name of a group: every record until it is done."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Generic

import structlog
from aiokafka.errors import KafkaError

from mesh.bus.cluster import Cluster
from mesh.bus.group_member import GroupMember, GroupSubscription
from mesh.bus.publisher import Publisher
from mesh.bus.record import dead_letter, encode, inherited
from mesh.bus.record_tracker import RecordTracker
from mesh.bus.stall_detector import LOOK_SECONDS, StallDetector
from mesh.delivery import Delivery, Output
from mesh.problems import Problem, Unavailable
from mesh.task_group import task_group
from mesh.telemetry.spans import end_spans
from mesh.topics import M

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 0.25
# While more is waiting, what is done gathers: a record's delay matters less than what each request costs.
GATHER_SECONDS = 1.0
BACKOFF_SECONDS = 0.5
CLOSE_SECONDS = 3.0


class Stream(Generic[M]):
    """At least once: what is not done when its partition goes to another member, or this process ends, comes
    again.

    At most `buffer` records are fetched and not done at a time; a worker that keeps them stops the intake.
    """

    def __init__(
        self, cluster: Cluster, publisher: Publisher, subscription: GroupSubscription[M], buffer: int
    ) -> None:
        self.topic_id = subscription.topic_id
        self._cluster, self._publisher, self._subscription = cluster, publisher, subscription
        self._tracker = RecordTracker[M](buffer)
        self._member = GroupMember(cluster, subscription, self._tracker, self._settle)
        self._publishing = asyncio.Lock()
        self._committed: dict[int, int] = {}
        self._failure: BaseException | None = None
        self._closed = False

    async def batches(self, max_records: int, linger: float = 0.0) -> AsyncIterator[list[Delivery[M]]]:
        """1 to `max_records` records, as soon as there are any; `linger` seconds more to fill the batch.

        Records of one partition come in log order; those that retention took unread are passed over with an
        error line. Raises Conflict (OFFSET_OUT_OF_RANGE) where the log ends before the next record, and so is
        another one; Denied, NotFound; a cluster that is away only makes it wait. It ends with the stream's
        block.
        """
        while not self._closed:
            if batch := await self._batch(max_records, linger):
                yield batch

    async def _batch(self, max_records: int, linger: float) -> list[Delivery[M]]:
        """Empty only where the stream ends."""
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

    def done(self, delivery: Delivery[M], *outputs: Output) -> None:
        """The record is processed; `outputs` follow from it, and carry on its request id and trace: under the
        current span, where it is recorded.

        In any order: outputs are published in the records' order within each partition, and a record is
        committed once it and all before it are done and their outputs durable. Ignored where the record is no
        longer ours. Raises Invalid where an output is none of its topic's, or too large.
        """
        headers = inherited(delivery)
        self._tracker.done(delivery, tuple(encode(topic, message, headers) for topic, message in outputs))

    async def bury(self, delivery: Delivery[M], reason: str, *outputs: Output, attempts: int = 1) -> None:
        """The record can never be processed: puts its original bytes into the group's dead letters; then it
        is `done`, with `outputs`. `reason` is UPPER_SNAKE. Raises Unavailable."""
        entry = self._tracker.find(delivery)
        if entry is not None:
            await self._publisher.send(
                [dead_letter(entry.record, self._subscription.group, reason, attempts)]
            )
            self.done(delivery, *outputs)

    async def lag(self) -> int:
        """How many records, over all partitions, are not done for this group: 0 only if all that were in the
        topic when this was called are done, and their outputs durable. Raises Unavailable."""
        return await self.behind(await self.ends())

    async def behind(self, ends: Mapping[int, int]) -> int:
        """How many of the records before `ends`, as `ends` gave them, are not done for this group. Raises
        Unavailable."""
        await self._pass_gaps()
        at = self.positions()
        if ends.keys() - at.keys():
            others = await self._subscription.committed(self._cluster, ends.keys() - at.keys())
            at = await self._cluster.beginnings(self._subscription.topic.name) | others | self.positions()
        return sum(max(0, end_spans - at[partition]) for partition, end_spans in ends.items())

    async def ends(self) -> dict[int, int]:
        """The offset that each partition's next record will have; raises Unavailable."""
        ends = await self._cluster.ends(self._subscription.topic.name)
        await self._pass_gaps()
        return ends

    async def _pass_gaps(self) -> None:
        """Offsets that the intake has passed and that hold no record are done."""
        for partition, position in (await self._member.positions()).items():
            self._tracker.skip(partition, position)

    def positions(self) -> dict[int, int]:
        """By partition that is ours, the next offset not yet done."""
        return self._tracker.positions()

    async def seek(self, partition: int, offset: int) -> None:
        """Goes on at `offset`. What was handed out of the partition comes again or is passed over, and
        answers to it are ignored. Does nothing where the partition is not ours."""
        if partition in self._tracker.assigned():
            self._member.start_at(partition, offset)

    # The stream's own tasks.

    async def run(self) -> None:
        tasks = [self._read(), self._publish(), self._commit()]
        try:
            async with task_group() as group:
                for task in tasks:
                    group.create_task(task)
        except Exception as failure:
            self._failure = failure
            self._tracker.arrived.set()

    async def close(self, running: "asyncio.Task[None]") -> None:
        """Publishes and commits what is done, if that is possible in 3 s, and leaves the group."""
        self._closed = True
        self._tracker.arrived.set()
        with suppress(TimeoutError, Problem):
            await asyncio.wait_for(self._settle(), CLOSE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._member.leave()

    async def _read(self) -> None:
        while True:
            try:
                await self._member.join()
                reading = asyncio.ensure_future(self._member.read())
                watching = asyncio.ensure_future(self._watch())
                try:
                    await asyncio.wait([reading, watching], return_when=asyncio.FIRST_COMPLETED)
                    if reading.done():
                        reading.result()
                finally:
                    for task in (reading, watching):
                        task.cancel()
                    await asyncio.gather(reading, watching, return_exceptions=True)
                log.warning(
                    "consumer stalled: joining anew",
                    topic=self._subscription.topic.name,
                    group=self._subscription.group,
                )
            except (KafkaError, OSError) as error:
                log.warning(
                    "consumer failed: joining anew", topic=self._subscription.topic.name, error=repr(error)
                )
            self._committed.clear()
            await self._member.leave()
            await asyncio.sleep(BACKOFF_SECONDS)

    async def _watch(self) -> None:
        """Returns when the consumer has stalled."""
        loop, stall_detector = asyncio.get_running_loop(), StallDetector()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                ends = await self.ends()
            except Problem:
                stall_detector.reset()
                continue
            if not self._member.joined:
                stalled = stall_detector.unjoined(loop.time())
            else:
                stalled = stall_detector.stalled(
                    loop.time(), await self._member.positions(), ends, self._member.emptied
                )
            if stalled:
                return

    async def _publish(self) -> None:
        while True:
            await self._tracker.publishable.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._tracker.taken.wait()
            self._tracker.publishable.clear()
            try:
                await self._flush()
            except Unavailable as problem:
                log.warning("outputs wait", topic=self._subscription.topic.name, error=problem.message)
                self._tracker.publishable.set()

    async def _flush(self) -> None:
        """Makes the outputs of what is done durable. One at a time, so that their order holds."""
        async with self._publishing:
            ready = list(self._tracker.ready())
            outputs = [o for _, _, entries in ready for e in entries for o in e.outputs or ()]
            await self._publisher.send(outputs)
            end_spans(output.span for output in outputs)
            for partition, generation, entries in ready:
                self._tracker.finish(partition, generation, len(entries))

    async def _commit(self) -> None:
        while True:
            await self._tracker.moved.wait()
            self._tracker.moved.clear()
            await asyncio.sleep(COMMIT_SECONDS)
            if not await self._mirror():
                await asyncio.sleep(BACKOFF_SECONDS)
                self._tracker.moved.set()

    async def _mirror(self) -> bool:
        """Whether Kafka knows where we are."""
        moved = {p: at for p, at in self._tracker.positions().items() if self._committed.get(p) != at}
        if moved and not await self._member.commit(moved):
            return False
        self._committed |= moved
        return True

    async def _settle(self) -> None:
        await self._flush()
        await self._mirror()


@asynccontextmanager
async def open_stream(
    cluster: Cluster, publisher: Publisher, subscription: GroupSubscription[M], buffer: int
) -> AsyncIterator[Stream[M]]:
    stream = Stream(cluster, publisher, subscription, buffer)
    task = asyncio.create_task(stream.run(), name=f"{subscription.group} reads {subscription.topic.name}")
    try:
        yield stream
    finally:
        # Shielded: a member that is not ended keeps its partitions.
        await asyncio.shield(asyncio.create_task(stream.close(task)))
