"""What a stream has fetched and not yet finished: pure bookkeeping, by partition."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Generic

from mesh.bus.record import Outgoing
from mesh.delivery import Delivery
from mesh.topics import M


@dataclass(slots=True)
class TrackedRecord(Generic[M]):
    """One record. `delivery` is None where nobody is to see it; `outputs` is None until it is done."""

    record: Any
    delivery: Delivery[M] | None
    outputs: tuple[Outgoing, ...] | None = None


class TrackedPartition(Generic[M]):
    """The unfinished records of one partition, in log order, as long as it stays assigned."""

    def __init__(self, generation: int, position: int) -> None:
        self.generation = generation
        self.fetched = position
        self._entries: deque[TrackedRecord[M]] = deque()
        self._by_offset: dict[int, TrackedRecord[M]] = {}

    @property
    def unfinished(self) -> int:
        return len(self._entries)

    @property
    def position(self) -> int:
        """The next offset that is not finished: all before it are done, and their outputs durable."""
        return self._entries[0].record.offset if self._entries else self.fetched

    def add(self, entry: TrackedRecord[M]) -> None:
        self._entries.append(entry)
        self._by_offset[entry.record.offset] = entry
        self.fetched = entry.record.offset + 1

    def get(self, offset: int) -> TrackedRecord[M] | None:
        return self._by_offset.get(offset)

    @property
    def is_ready(self) -> bool:
        return bool(self._entries) and self._entries[0].outputs is not None

    def ready(self) -> list[TrackedRecord[M]]:
        """The contiguous done records at the front."""
        ready = []
        for entry in self._entries:
            if entry.outputs is None:
                break
            ready.append(entry)
        return ready

    def finish(self, count: int) -> None:
        """Takes the first `count` off, and those behind them that are done and have nothing to publish."""
        for _ in range(count):
            self._pop()
        while self._entries and self._entries[0].outputs == ():
            self._pop()

    def _pop(self) -> None:
        del self._by_offset[self._entries.popleft().record.offset]


class RecordTracker(Generic[M]):
    """Bounded: at most `capacity` records are fetched and unfinished at a time.

    The events wake whoever waits: `arrived` something to hand out, `taken` nothing to hand out any more,
    `drained` room again, `publishable` outputs to publish, `moved` a position to commit. They may wake in
    vain.
    """

    def __init__(self, capacity: int) -> None:
        self.arrived, self.taken, self.drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.publishable, self.moved = asyncio.Event(), asyncio.Event()
        self.capacity = capacity
        self._generation = 0
        self._partitions: dict[int, TrackedPartition[M]] = {}
        self._waiting: deque[Delivery[M]] = deque()
        self.taken.set()

    def assign(self, partition: int, position: int) -> None:
        """Starts the partition anew: what was known of it is forgotten, answers to it come too late."""
        self._generation += 1
        self._partitions[partition] = TrackedPartition(self._generation, position)
        self.drained.set()

    def revoke(self) -> None:
        self._partitions.clear()
        self._waiting.clear()
        self.taken.set()
        self.drained.set()

    def generation(self, partition: int) -> int | None:
        """None where the partition is not assigned."""
        known = self._partitions.get(partition)
        return None if known is None else known.generation

    def add(self, entry: TrackedRecord[M]) -> None:
        partition = self._partitions[entry.record.partition]
        partition.add(entry)
        if entry.delivery is not None:
            self._waiting.append(entry.delivery)
            self.arrived.set()
            self.taken.clear()
        else:
            self._settle(partition)

    def take(self, limit: int) -> list[Delivery[M]]:
        """Hands out up to `limit` records, in the order they came."""
        taken: list[Delivery[M]] = []
        while self._waiting and len(taken) < limit:
            delivery = self._waiting.popleft()
            if self.generation(delivery.partition) == delivery.generation:
                taken.append(delivery)
        if not self._waiting:
            self.arrived.clear()
            self.taken.set()
        return taken

    def find(self, delivery: Delivery[M]) -> TrackedRecord[M] | None:
        """None where it is finished, or belongs to an assignment that is over."""
        partition = self._partitions.get(delivery.partition)
        if partition is None or partition.generation != delivery.generation:
            return None
        return partition.get(delivery.offset)

    def done(self, delivery: Delivery[M], outputs: tuple[Outgoing, ...]) -> None:
        entry = self.find(delivery)
        if entry is not None and entry.outputs is None:
            entry.outputs = outputs
            self._settle(self._partitions[delivery.partition])

    def ready(self) -> Iterator[tuple[int, int, list[TrackedRecord[M]]]]:
        """What may be published now: (partition, generation, its contiguous done records)."""
        for number, partition in list(self._partitions.items()):
            if entries := partition.ready():
                yield number, partition.generation, entries

    def finish(self, number: int, generation: int, count: int) -> None:
        """The outputs of the partition's first `count` records are durable."""
        if self.generation(number) == generation:
            self._settle(self._partitions[number], count)

    def positions(self) -> dict[int, int]:
        return {number: partition.position for number, partition in self._partitions.items()}

    def skip(self, number: int, position: int) -> None:
        """The log holds nothing for us before `position`, which counts where no record is unfinished."""
        partition = self._partitions.get(number)
        if partition is not None and not partition.unfinished and position > partition.fetched:
            partition.fetched = position
            self.moved.set()

    @property
    def room(self) -> int:
        return self.capacity - sum(partition.unfinished for partition in self._partitions.values())

    def assigned(self) -> Collection[int]:
        return self._partitions.keys()

    def _settle(self, partition: TrackedPartition[M], count: int = 0) -> None:
        before = partition.position
        partition.finish(count)
        if partition.position != before or not partition.unfinished:
            self.moved.set()
            self.drained.set()
        if partition.is_ready:
            self.publishable.set()
