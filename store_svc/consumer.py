"""Records a topic of the log in the database: each batch in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

import structlog

from mesh.bus import Stream
from mesh.delivery import Delivery
from mesh.problems import Problem
from mesh.retry import Backoff, retry
from mesh.telemetry.spans import batch_spans
from mesh.topics import M
from store_svc.commit_signals import CommitSignals
from store_svc.database import Connection, Database
from store_svc.database.errors import DATABASE_ERRORS
from store_svc.offsets import Move, Offsets, OffsetsMoved, moves
from store_svc.recording.recorder import Effect, Item, Recorder

log = structlog.get_logger(__name__)

R = TypeVar("R")

BATCH = 100
# A transaction records at most so many findings of a detector, or one record that has more.
MAX_FINDINGS = 5_000
# Records that arrive during this pause share a transaction. After an idle time, the first does not wait.
PAUSE_SECONDS = 0.05
ATTEMPTS = 3
# Pauses while the database or the bus is not available.
BACKOFF = Backoff(0.2, 5.0)


class Consumer(Generic[M, Item]):
    """Records one topic.

    While the database is not available, records wait. A record that can never be stored becomes a dead
    letter; it is found by recording its batch one record at a time. An error of PostgreSQL that no record
    causes, for example a missing table, is raised and stops the process.
    """

    def __init__(
        self,
        database: Database,
        offsets: Offsets,
        signals: CommitSignals,
        recorder: Recorder[M, Item],
        findings: Callable[[M], int] = lambda _: 0,
    ) -> None:
        """`findings` counts a record's: those of a clip are as many as those of many photos."""
        self._database = database
        self._offsets = offsets
        self._signals = signals
        self._recorder = recorder
        self._findings = findings
        self._topic = recorder.topic.name

    async def run(self, stream: Stream[M]) -> None:
        async for batch in stream.batches(BATCH):
            for part in self._parts(batch):
                await self.process(stream, part)
            if len(batch) < BATCH:
                await asyncio.sleep(PAUSE_SECONDS)

    def _parts(self, batch: Sequence[Delivery[M]]) -> Iterator[list[Delivery[M]]]:
        """The batch in parts of at most MAX_FINDINGS."""
        part: list[Delivery[M]] = []
        total = 0
        for delivery in batch:
            count = self._findings(delivery.message)
            if part and total + count > MAX_FINDINGS:
                yield part
                part, total = [], 0
            part.append(delivery)
            total += count
        if part:
            yield part

    async def process(self, stream: Stream[M], batch: Sequence[Delivery[M]], attempt: int = 1) -> None:
        """Returns when each record is stored, is a dead letter, or will be delivered again."""
        try:
            with batch_spans(batch, f"record {self._topic}") as followed:
                effect = await self._retry(lambda: self._record(stream, followed))
        except OffsetsMoved:
            await self._seek_to_stored_offsets(stream, batch)
        except DATABASE_ERRORS:
            raise
        except Exception as error:
            await self._isolate(stream, batch, error, attempt)
        else:
            self._signals.notify(
                feed=effect.outbox, due=effect.due, kept=effect.kept, rendered=effect.rendered
            )
            for delivery in batch:
                stream.done(delivery)

    async def _record(self, stream: Stream[M], batch: Sequence[Delivery[M]]) -> Effect:
        items = [self._recorder.read(delivery) for delivery in batch]
        moved = moves(batch)

        async def work(connection: Connection) -> Effect:
            await self._offsets.advance(connection, self._topic, stream.topic_id, moved)
            return await self._recorder.write(connection, items)

        effect = await self._database.transaction(work)
        self._offsets.committed(self._topic, moved)
        return effect

    async def _isolate(
        self, stream: Stream[M], batch: Sequence[Delivery[M]], error: Exception, attempt: int
    ) -> None:
        """Finds the record that caused `error`, and makes it a dead letter."""
        if len(batch) > 1:
            for delivery in batch:
                await self.process(stream, [delivery])
        elif isinstance(error, Problem):
            await self._bury(stream, batch[0], error.reason, error, attempt)
        elif attempt < ATTEMPTS:  # an unexpected error may not happen again
            await asyncio.sleep(BACKOFF.pause(attempt))
            await self.process(stream, batch, attempt + 1)
        else:
            await self._bury(stream, batch[0], "INTERNAL", error, attempt)

    async def _bury(
        self, stream: Stream[M], delivery: Delivery[M], reason: str, error: Exception, attempts: int
    ) -> None:
        position = {"topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset}
        log.error("record cannot be stored, writing dead letter", reason=reason, error=str(error), **position)
        # The dead letter is written before the offset: if the process is killed in between, the record
        # becomes a dead letter twice, but it is not lost.
        await self._retry(lambda: stream.bury(delivery, reason, attempts=attempts))
        try:
            await self._retry(lambda: self._skip(stream, moves([delivery])))
        except OffsetsMoved:
            await self._seek_to_stored_offsets(stream, [delivery])

    async def _skip(self, stream: Stream[M], moved: Sequence[Move]) -> None:
        topic, topic_id = self._topic, stream.topic_id
        await self._database.transaction(lambda c: self._offsets.advance(c, topic, topic_id, moved))
        self._offsets.committed(topic, moved)

    async def _seek_to_stored_offsets(self, stream: Stream[M], batch: Sequence[Delivery[M]]) -> None:
        """Continues where the database says, after another process has recorded these partitions."""
        began = {move.partition: move.first for move in moves(batch)}
        topic, topic_id = self._topic, stream.topic_id
        found = await self._retry(lambda: self._offsets.load(topic, topic_id, began.keys()))
        log.warning("offsets moved by another process, seeking", topic=topic, offsets=found)
        for partition, offset in (began | found).items():
            await stream.seek(partition, offset)

    async def _retry(self, work: Callable[[], Awaitable[R]]) -> R:
        """Repeats `work` until it succeeds. Meanwhile the stream's buffer fills, and fetching stops."""
        return await retry(work, f"record {self._topic}", backoff=BACKOFF)
