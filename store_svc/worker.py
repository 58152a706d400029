"""The store's loops over the log: a batch in, one transaction, done."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.bus import Stream
from mesh.delivery import Delivery
from mesh.problems import Problem
from mesh.telemetry.spans import batch_spans
from mesh.topics import M
from store_svc.database import Database
from store_svc.facts_read import FactsRead
from store_svc.offsets import Move, Offsets, OffsetsMoved, moves
from store_svc.recording import Effect, Item, Recorder
from store_svc.sweep import Sweep
from store_svc.wakeups import Wakeups

log = structlog.get_logger(__name__)

R = TypeVar("R")

BATCH = 100
# Under load, records gather meanwhile and share a transaction; after a quiet time the first one goes at once.
BREATH_SECONDS = 0.05
ATTEMPTS = 3
BACKOFF_MOST_SECONDS = 5.0
SWEEP_SECONDS = 1.0
LOOK_SECONDS = 0.1


class Consumer(Generic[M, Item]):
    """Records one topic. What the database cannot take now waits; what it never will is a dead letter, found
    by recording its batch one by one. A bug in the tables or the statements stops the process."""

    def __init__(
        self, database: Database, offsets: Offsets, wakeups: Wakeups, recorder: Recorder[M, Item]
    ) -> None:
        self._database = database
        self._offsets = offsets
        self._wakeups = wakeups
        self._recorder = recorder
        self._topic = recorder.topic.name

    async def run(self, stream: Stream[M]) -> None:
        async for batch in stream.batches(BATCH):
            await self.take(stream, batch)
            if len(batch) < BATCH:
                await asyncio.sleep(BREATH_SECONDS)

    async def take(self, stream: Stream[M], batch: Sequence[Delivery[M]], attempt: int = 1) -> None:
        """Returns when each record is stored or buried, or will come again."""
        try:
            with batch_spans(batch, f"record {self._topic}") as followed:
                effect = await patiently(self._topic, lambda: self._record(stream, followed))
        except OffsetsMoved:
            await self._go_back(stream, batch)
        except (asyncpg.PostgresError, DBAPIError):
            raise
        except Exception as error:
            await self._isolate(stream, batch, error, attempt)
        else:
            self._wakeups.notify(feed=effect.outbox, due=effect.due)
            for delivery in batch:
                stream.done(delivery)

    async def _record(self, stream: Stream[M], batch: Sequence[Delivery[M]]) -> Effect:
        items = [self._recorder.read(delivery) for delivery in batch]
        moved = moves(batch)

        async def work(connection: asyncpg.Connection) -> Effect:
            await self._offsets.advance(connection, self._topic, stream.topic_id, moved)
            return await self._recorder.write(connection, items)

        effect = await self._database.fast(work)
        self._offsets.committed(self._topic, moved)
        return effect

    async def _isolate(
        self, stream: Stream[M], batch: Sequence[Delivery[M]], error: Exception, attempt: int
    ) -> None:
        if len(batch) > 1:
            for delivery in batch:
                await self.take(stream, [delivery])
        elif isinstance(error, Problem):
            await self._bury(stream, batch[0], error.reason, error, attempt)
        elif attempt < ATTEMPTS:  # nobody foresaw this: it may pass
            await _pause(attempt)
            await self.take(stream, batch, attempt + 1)
        else:
            await self._bury(stream, batch[0], "INTERNAL", error, attempt)

    async def _bury(
        self, stream: Stream[M], delivery: Delivery[M], reason: str, error: Exception, attempts: int
    ) -> None:
        where = {"topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset}
        log.error("record buried", reason=reason, error=str(error), **where)
        # First the dead letter, then the offset: killed in between, it is buried twice, but never lost.
        await patiently(self._topic, lambda: stream.bury(delivery, reason, attempts=attempts))
        try:
            await patiently(self._topic, lambda: self._pass_over(stream, moves([delivery])))
        except OffsetsMoved:
            await self._go_back(stream, [delivery])

    async def _pass_over(self, stream: Stream[M], moved: Sequence[Move]) -> None:
        topic, topic_id = self._topic, stream.topic_id
        await self._database.fast(lambda c: self._offsets.advance(c, topic, topic_id, moved))
        self._offsets.committed(topic, moved)

    async def _go_back(self, stream: Stream[M], batch: Sequence[Delivery[M]]) -> None:
        """Somebody else was here: goes on where the database says."""
        began = {move.partition: move.first for move in moves(batch)}
        topic, topic_id = self._topic, stream.topic_id
        found = await patiently(topic, lambda: self._offsets.load(topic, topic_id, began.keys()))
        log.warning("offsets moved elsewhere: going back", topic=topic, offsets=found)
        for partition, offset in (began | found).items():
            await stream.seek(partition, offset)


async def sweeping(
    sweep: Sweep, detections: Stream[MediaDetected], wakeups: Wakeups, facts: FactsRead
) -> None:
    """Lets the leases begin once the assessments are read; then closes events, once a second."""
    while True:
        if await patiently("assessments", facts.look):
            break
        await asyncio.sleep(LOOK_SECONDS)
    wakeups.notify(feed=False, due=True)
    while True:
        effect = await patiently("sweep", lambda: sweep_once(sweep, detections, facts))
        wakeups.notify(feed=effect.outbox, due=effect.due)
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep_once(sweep: Sweep, detections: Stream[MediaDetected], facts: FactsRead) -> Effect:
    """Closes only where all that was in the log by then is in the store; lets expired leases be granted anew
    once all facts of until then are."""
    await sweep.mend()
    expired = await sweep.last_expiry()
    regained = expired is not None and await catch_up(facts, expired)
    before, partitions = await sweep.quiet()
    if not partitions:
        return Effect(due=regained)
    ends = await detections.ends()  # asked after `before` was fixed
    at = detections.positions()
    effect = await sweep.close(before, {p for p in partitions if p in at and at[p] >= ends.get(p, 0)})
    return Effect(effect.outbox, effect.due or regained)


async def catch_up(facts: FactsRead, expired: datetime) -> bool:
    """Whether the facts were read until `expired` only now."""
    if facts.until is not None and facts.until >= expired:
        return False
    return await facts.look()


async def patiently(what: str, work: Callable[[], Awaitable[R]]) -> R:
    """Tries again, with growing pauses, while `work` fails by a retryable Problem. A stream's buffer fills
    meanwhile, which stops its intake."""
    failures = 0
    while True:
        try:
            return await work()
        except Problem as problem:
            if not problem.retryable:
                raise
            failures += 1
            log.warning("waiting", what=what, reason=problem.reason, error=problem.message)
        await _pause(failures)


async def _pause(failures: int) -> None:
    most = min(BACKOFF_MOST_SECONDS, 0.1 * 2.0 ** min(failures, 10))
    await asyncio.sleep(random.uniform(most / 2, most))  # noqa: S311
