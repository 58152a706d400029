"""Tracks the records that a stream has fetched and not yet finished, by partition. No I/O."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Generic

from mesh.bus.record import Outgoing
from mesh.delivery import Delivery
from mesh.topics import M

# So many records' outputs are published without waiting for others.
GATHER_RECORDS = 24
# A record that takes minutes, such as a clip's, does not keep those behind it, and those of other partitions,
# from being delivered until so many times the capacity are held.
UNFINISHED = 4


@dataclass(slots=True)
class TrackedRecord(Generic[M]):
    """`delivery` is None for a record that is not delivered; `outputs` is None until the record is done, and
    `urgent` says whether they should be published soon."""

    record: Any
    delivery: Delivery[M] | None
    outputs: tuple[Outgoing, ...] | None = None
    urgent: bool = False
    taken_at: float = 0.0


class TrackedPartition(Generic[M]):
    """The unfinished records of one partition, in log order, for the time that it is assigned."""

    def __init__(self, generation: int, position: int) -> None:
        self.generation = generation
        self.next_fetch = position
        self._records: deque[TrackedRecord[M]] = deque()
        self._by_offset: dict[int, TrackedRecord[M]] = {}
        self.undone = 0  # records to deliver, or delivered, that are not done

    @property
    def unfinished(self) -> int:
        return len(self._records)

    @property
    def position(self) -> int:
        """The next unfinished offset: all records before it are done and their outputs durable."""
        return self._records[0].record.offset if self._records else self.next_fetch

    @property
    def processed(self) -> int:
        """The next offset to fetch, less the records that are not done: where the partition would stand if
        those that are done were the first. One that takes long is one record, whatever is done behind it."""
        return self.next_fetch - self.undone

    def add(self, tracked: TrackedRecord[M]) -> None:
        self._records.append(tracked)
        self._by_offset[tracked.record.offset] = tracked
        self.undone += tracked.outputs is None
        self.next_fetch = tracked.record.offset + 1

    def get(self, offset: int) -> TrackedRecord[M] | None:
        return self._by_offset.get(offset)

    def done(self, tracked: TrackedRecord[M], outputs: tuple[Outgoing, ...], urgent: bool) -> None:
        tracked.outputs, tracked.urgent = outputs, urgent
        self.undone -= 1

    @property
    def is_ready(self) -> bool:
        return bool(self._records) and self._records[0].outputs is not None

    def ready(self) -> list[TrackedRecord[M]]:
        """Returns the longest run of done records at the front."""
        ready = []
        for tracked in self._records:
            if tracked.outputs is None:
                break
            ready.append(tracked)
        return ready

    def finish(self, count: int) -> None:
        """Removes the first `count` records, and the done records without outputs that follow them."""
        for _ in range(count):
            self._pop()
        while self._records and self._records[0].outputs == ():
            self._pop()

    def _pop(self) -> None:
        del self._by_offset[self._records.popleft().record.offset]


class RecordTracker(Generic[M]):
    """Holds at most `capacity` fetched records that are not done, and UNFINISHED times as many together with
    those that are done and wait for others before them, or for their outputs to be durable.

    Its events wake waiting tasks: `arrived` when there is something to deliver, `taken` when everything is
    delivered, `drained` when there is room again, `publishable` when there are outputs to publish, `gathered`
    when there are those of GATHER_RECORDS or everything is done, `moved` when there is a position to commit.
    A task may find that nothing has changed.
    """

    def __init__(self, capacity: int, measure: Callable[[float], None] = lambda _: None) -> None:
        """`measure` takes the seconds from each record that was taken until it is done."""
        self._measure = measure
        self.arrived, self.taken, self.gathered = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.drained, self.publishable, self.moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.capacity = capacity
        self._generation = 0
        self._partitions: dict[int, TrackedPartition[M]] = {}
        self._waiting: deque[Delivery[M]] = deque()
        self.taken.set()
        self.gathered.set()

    def assign(self, partition: int, position: int) -> None:
        """Starts the partition at `position` in a new generation. Deliveries of earlier generations are
        ignored from now on."""
        self._generation += 1
        self._partitions[partition] = TrackedPartition(self._generation, position)
        self._note_gathered()
        self.drained.set()

    def revoke(self) -> None:
        """Drops all partitions."""
        self._partitions.clear()
        self._waiting.clear()
        self._note_gathered()
        self.taken.set()
        self.drained.set()

    def generation(self, partition: int) -> int | None:
        """Returns None if the partition is not assigned."""
        known = self._partitions.get(partition)
        return None if known is None else known.generation

    def add(self, tracked: TrackedRecord[M]) -> None:
        partition = self._partitions[tracked.record.partition]
        partition.add(tracked)
        if tracked.delivery is not None:
            self._waiting.append(tracked.delivery)
            self.arrived.set()
            self.taken.clear()
        else:
            self._settle(partition)
        self._note_gathered()

    def take(self, limit: int) -> list[Delivery[M]]:
        """Returns up to `limit` records to deliver, in the order in which they were added."""
        taken: list[Delivery[M]] = []
        while self._waiting and len(taken) < limit:
            delivery = self._waiting.popleft()
            if (tracked := self.find(delivery)) is not None:
                tracked.taken_at = time.monotonic()
                taken.append(delivery)
        if not self._waiting:
            self.arrived.clear()
            self.taken.set()
        return taken

    def find(self, delivery: Delivery[M]) -> TrackedRecord[M] | None:
        """Returns None if the record is finished, or is of an earlier generation."""
        partition = self._partitions.get(delivery.partition)
        if partition is None or partition.generation != delivery.generation:
            return None
        return partition.get(delivery.offset)

    def done(self, delivery: Delivery[M], outputs: tuple[Outgoing, ...], urgent: bool = True) -> None:
        """Marks a record as processed. Ignores one that `find` does not find."""
        tracked = self.find(delivery)
        if tracked is not None and tracked.outputs is None:
            partition = self._partitions[delivery.partition]
            partition.done(tracked, outputs, urgent)
            self._measure(time.monotonic() - tracked.taken_at)
            self.drained.set()
            self._settle(partition)
            self._note_gathered()

    def ready(self) -> Iterator[tuple[int, int, list[TrackedRecord[M]]]]:
        """Yields, for each partition with outputs to publish, its number, generation and run of done
        records."""
        for number, partition in list(self._partitions.items()):
            if records := partition.ready():
                yield number, partition.generation, records

    @property
    def urgent(self) -> bool:
        """Whether there are outputs to publish of an urgent record."""
        return any(tracked.urgent for _, _, records in self.ready() for tracked in records)

    def finish(self, number: int, generation: int, count: int) -> None:
        """Records that the outputs of the partition's first `count` records are durable."""
        if self.generation(number) == generation:
            self._settle(self._partitions[number], count)
            self._note_gathered()

    def positions(self) -> dict[int, int]:
        return {number: partition.position for number, partition in self._partitions.items()}

    def processed(self) -> dict[int, int]:
        return {number: partition.processed for number, partition in self._partitions.items()}

    def skip(self, number: int, position: int) -> None:
        """Moves past offsets that hold no record, up to `position`, if no record is unfinished."""
        partition = self._partitions.get(number)
        if partition is not None and not partition.unfinished and position > partition.next_fetch:
            partition.next_fetch = position
            self.moved.set()

    @property
    def room(self) -> int:
        undone = sum(partition.undone for partition in self._partitions.values())
        return min(self.capacity - undone, UNFINISHED * self.capacity - self.unfinished)

    @property
    def unfinished(self) -> int:
        return sum(partition.unfinished for partition in self._partitions.values())

    def assigned(self) -> Collection[int]:
        return self._partitions.keys()

    def _note_gathered(self) -> None:
        partitions = self._partitions.values()
        ready = sum(len(partition.ready()) for partition in partitions)
        if ready >= GATHER_RECORDS or not any(partition.undone for partition in partitions):
            self.gathered.set()
        else:
            self.gathered.clear()

    def _settle(self, partition: TrackedPartition[M], count: int = 0) -> None:
        before = partition.position
        partition.finish(count)
        if partition.position != before or not partition.unfinished:
            self.moved.set()
            self.drained.set()
        if partition.is_ready:
            self.publishable.set()
