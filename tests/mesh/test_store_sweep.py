"""Closing events, and a clock that is set back, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from uuid import UUID

import pytest

from store_svc import event_repository, sweep
from store_svc.commit_signals import CommitSignals
from store_svc.database.statement import Connection
from store_svc.domain.queued_event import QueuedEvent
from tests.support.facts import NOON, assessed, at, detected, failed, opened_by
from tests.support.recorded import LEASE_SECONDS, Recorded, open_recorded, sequences
from tests.support.waiting import until, until_async

EVENT = opened_by(1)
ID = str(UUID(int=1))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


class TestClosing:
    async def test_happens_30_s_after_the_last_detection_was_recorded(self, store: Recorded) -> None:
        await store.detect(detected(1, -5000))  # when it was captured does not matter
        await store.sweep(after=29.999999)
        assert not (await store.event(EVENT))["closed"]
        await store.sweep(after=0.000001)
        row = await store.event(EVENT)
        assert (row["closed"], row["revision"], row["sequence"]) == (True, 2, 2)
        assert await store.due_at(EVENT) == store.now
        assert (await store.feed())[-1].event.closed

    async def test_signals_due_jobs_and_the_feed(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        due, feed = store.signals.due.upcoming(), store.signals.feed.upcoming()
        await store.sweep(after=30)
        assert due.is_set()
        assert feed.is_set()

    async def test_counts_from_the_latest_detection(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        store.now = at(20)
        await store.detect(detected(2, 20))
        await store.sweep(after=29)
        assert not (await store.event(EVENT))["closed"]
        await store.sweep(after=1)
        assert (await store.event(EVENT))["closed"]

    async def test_happens_once(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=30)
        await store.sweep()
        await store.sweep(after=1000)
        assert sequences(await store.feed()) == [1, 2]

    async def test_by_several_at_once_happens_once(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them find the same events before the first one has a lock."""
        found, lock = asyncio.Barrier(4), event_repository.lock_cameras

        async def together(*arguments: object) -> object:
            await found.wait()
            return await lock(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(sweep, "lock_cameras", together)
        await store.detect(*(detected(n, n * 1000, camera=f"cam{n % 3}") for n in range(12)))
        others = [Recorded(store.database, now=NOON, detections=store.detections) for _ in range(4)]
        await asyncio.gather(*(other.sweep(after=30) for other in others))
        assert sequences(await store.feed()) == list(range(1, 25))

    async def test_waits_until_the_partition_is_read(self, store: Recorded) -> None:
        """With a backlog, 30 s without a record do not mean that nothing will join."""
        await store.detect(detected(1, 0), partition=0)
        await store.detect(detected(1, 0, camera="back"), partition=1)
        store.detections.end = {0: 2, 1: 1}
        await store.sweep(after=60)
        assert not (await store.event(EVENT))["closed"]
        assert (await store.event(opened_by(1, "back")))["closed"]
        await store.detect(detected(2, 20), partition=0)
        await store.sweep(after=29)
        assert not (await store.event(EVENT))["closed"]
        await store.sweep(after=1)
        row = await store.event(EVENT)
        assert (row["closed"], row["detection_count"], row["revision"]) == (True, 2, 3)

    async def test_ignores_partitions_that_it_does_not_read(self, store: Recorded) -> None:
        await store.detect(detected(1, 0), partition=5)
        other = Recorded(store.database)
        await other.sweep(after=60)
        assert not (await store.event(EVENT))["closed"]

    async def test_ignores_an_event_that_a_photo_joins_meanwhile(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The photo is recorded after the sweep has read the events, before it locks the camera."""
        await store.detect(detected(1, 0))
        lock = event_repository.lock_cameras
        store.now = at(30)

        async def late(*arguments: object) -> object:
            await store.detect(detected(2, 10))
            return await lock(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(sweep, "lock_cameras", late)
        await store.sweep()
        assert not (await store.event(EVENT))["closed"]

    async def test_creates_a_job_only_if_the_event_is_not_assessed(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, urgent=True))
        row = await store.event(EVENT)
        await store.assess(assessed(EVENT, ID, row["evidence_revision"], row["evidence_digest"]))
        await store.sweep(after=30)
        row = await store.event(EVENT)
        assert (row["closed"], await store.job(EVENT)) == (True, None)

    async def test_takes_several_transactions_for_many_events(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        load = event_repository.load_queued

        async def counted(connection: Connection, ids: Collection[UUID]) -> dict[UUID, QueuedEvent]:
            sizes.append(len(ids))
            return await load(connection, ids)

        monkeypatch.setattr(sweep, "CLOSED_PER_TRANSACTION", 3)
        monkeypatch.setattr(sweep, "load_queued", counted)
        await store.detect(*(detected(n, n * 1000) for n in range(8)))
        await store.sweep(after=30)
        assert sizes == [3, 3, 2]
        assert [row["closed"] for row in await store.rows("SELECT closed FROM events")] == [True] * 8


class TestLoop:
    """The loop around the sweep, without other processes: it sleeps while time can change nothing."""

    @pytest.fixture
    async def sweeping(self, store: Recorded, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
        """Runs the loop. Yields what it does: it looks for work, or it sweeps."""
        monkeypatch.setattr("store_svc.commit_signals.ALONE_SECONDS", 3600.0)
        monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.02)
        store.signals = store.detected._signals = CommitSignals(alone=True)
        done, has_work, fix = list[str](), store.sweeper.has_work, store.sweeper.fix_deadlines

        async def look() -> bool:
            done.append("look")
            return await has_work()

        async def fixed() -> None:
            done.append("sweep")
            await fix()

        monkeypatch.setattr(store.sweeper, "has_work", look)
        monkeypatch.setattr(store.sweeper, "fix_deadlines", fixed)
        loop = sweep.run_sweep(store.sweeper, store.detections, store.signals, store.all_facts)  # type: ignore[arg-type]
        task = asyncio.create_task(loop)
        yield done
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_closes_an_event_that_was_opened_while_it_slept(
        self, store: Recorded, sweeping: list[str]
    ) -> None:
        await until(lambda: sweeping == ["look"])
        await store.detect(detected(1, 0))
        await until(lambda: "sweep" in sweeping)
        store.now = at(30)
        await until_async(lambda: self.is_closed(store))

    async def test_sweeps_while_there_are_jobs_and_sleeps_afterwards(
        self, store: Recorded, sweeping: list[str]
    ) -> None:
        await store.detect(detected(1, 0))
        store.now = at(30)
        await until_async(lambda: self.is_closed(store))
        assert len(await store.take()) == 1
        swept = sweeping.count("sweep")
        await until(lambda: sweeping.count("sweep") > swept + 2)
        store.now += timedelta(seconds=LEASE_SECONDS)  # the worker has died
        await until_async(store.take)
        row = await store.event(EVENT)
        await store.assess(assessed(EVENT, ID, row["evidence_revision"], row["evidence_digest"]))
        await until(lambda: sweeping[-1] == "look")
        looks = sweeping.count("look")
        await asyncio.sleep(0.2)
        assert sweeping.count("look") <= looks + 1

    async def is_closed(self, store: Recorded) -> bool:
        return bool((await store.event(EVENT))["closed"])


class TestClockSetBack:
    async def test_closing_is_at_most_30_s_away(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=-86400)
        await store.sweep(after=29)
        assert not (await store.event(EVENT))["closed"]
        await store.sweep(after=1)
        assert (await store.event(EVENT))["closed"]

    async def test_a_clock_that_is_a_little_behind_another_changes_nothing(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=-LEASE_SECONDS)
        assert (await store.event(EVENT))["last_recorded_at"] == NOON

    async def test_a_due_job_stays_due(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, urgent=True))
        await store.sweep(after=-86400)
        assert await store.due_at(EVENT) == store.now

    async def test_a_pause_is_not_longer_than_it_can_be(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, urgent=True))
        row = await store.event(EVENT)
        for n in range(1, 4):
            await store.assess(
                failed(EVENT, str(UUID(int=n)), row["evidence_revision"], row["evidence_digest"])
            )
        await store.sweep()
        assert await store.due_at(EVENT) == NOON + timedelta(seconds=4)  # the clock is right
        await store.sweep(after=-LEASE_SECONDS)
        assert await store.due_at(EVENT) == NOON + timedelta(seconds=4)  # of another store, perhaps
        await store.sweep(after=-1)
        assert await store.due_at(EVENT) == store.now

    async def test_a_lease_is_not_longer_than_it_can_be(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, urgent=True))
        (lease,) = await store.take()
        await store.sweep(after=-100)
        job = await store.job(EVENT)
        assert job is not None
        assert (str(job["lease_id"]), job["leased_until"]) == (lease.lease_id, store.now)
        (again,) = await store.take()
        assert again.lease_id != lease.lease_id

    async def test_closed_events_are_unchanged(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=30)
        before = await store.feed()
        await store.sweep(after=-86400)
        await store.sweep(after=100)
        assert await store.feed() == before
