"""The order of locks: cameras, then jobs, then the feed's counter, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from lares.detect.v1.detection_pb2 import DetectorModel
from mesh.problems import NotFound
from store_svc.detectors import DetectorRecorder, Detectors
from store_svc.domain.job import ASSESS, Request
from store_svc.domain.queued_event import QueuedEvent
from store_svc.event_repository import load_queued, lock_cameras
from store_svc.job_queue import hasten_jobs
from tests.support.facts import assessed, detected, failed, opened_by
from tests.support.recorded import Recorded, open_recorded

EVENT = opened_by(1)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0))
        yield recorded


async def detect(store: Recorded) -> None:
    await store.detect(detected(2, 5))


async def assess(store: Recorded) -> None:
    row = await store.event(EVENT)
    await store.assess(assessed(EVENT, str(UUID(int=1)), row["evidence_revision"], row["evidence_digest"]))


async def sweep(store: Recorded) -> None:
    await store.sweep(after=30)


@pytest.mark.parametrize("change", [detect, assess, sweep])
async def test_a_change_waits_for_its_camera(
    store: Recorded, change: Callable[[Recorded], Awaitable[None]]
) -> None:
    async with store.database.connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM cameras FOR UPDATE")
            task = asyncio.ensure_future(change(store))
            async with asyncio.timeout(90):
                while not (task.done() or await waiting(store)):
                    await asyncio.sleep(0.01)
            assert not task.done()
            assert len(await store.feed()) == 1
        await task
    assert len(await store.feed()) == 2


async def waiting(store: Recorded) -> bool:
    """Whether a session of this database waits for a lock."""
    rows = await store.rows(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)


async def fail(store: Recorded) -> None:
    row = await store.event(EVENT)
    await store.assess(failed(EVENT, str(UUID(int=1)), row["evidence_revision"], row["evidence_digest"]))


async def ask(store: Recorded) -> None:
    await store.reassessments.request(UUID(EVENT), Request(UUID(int=71)))


@asynccontextmanager
async def blocked(
    store: Recorded, held: str, change: Callable[[Recorded], Awaitable[None]]
) -> AsyncIterator[asyncpg.Connection]:
    """The change waits for what the statement `held` locks, until the block ends. Yields a connection."""
    async with store.database.connection() as look, store.database.connection() as holder:
        async with holder.transaction():
            await holder.execute(held)
            task = asyncio.ensure_future(change(store))
            async with asyncio.timeout(90):
                while not (task.done() or await waiting(store)):
                    await asyncio.sleep(0.01)
            assert not task.done()
            yield look
        await task


ONE_JOB = "SELECT FROM jobs WHERE subject_id = (SELECT min(subject_id::text)::uuid FROM jobs) FOR UPDATE"
OTHER_JOB = (
    "SELECT FROM jobs WHERE subject_id = (SELECT max(subject_id::text)::uuid FROM jobs) FOR UPDATE NOWAIT"
)


async def hurry(store: Recorded) -> None:
    """Makes the open event due by the fast path."""
    await store.detect(detected(2, 5, urgent=True))
    assert await store.job(EVENT)
    assert not (await store.event(EVENT))["closed"]


@pytest.mark.parametrize(
    ("make_job", "change"), [(sweep, detect), (sweep, assess), (sweep, fail), (sweep, ask), (hurry, sweep)]
)
async def test_a_change_waits_for_its_job_before_it_takes_the_feeds_counter(
    store: Recorded,
    make_job: Callable[[Recorded], Awaitable[None]],
    change: Callable[[Recorded], Awaitable[None]],
) -> None:
    await make_job(store)
    async with blocked(store, ONE_JOB, change) as look:
        await look.execute("SELECT FROM feed_head FOR UPDATE NOWAIT")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await look.execute("SELECT FROM cameras FOR UPDATE NOWAIT")


async def grow_both(store: Recorded) -> None:
    await store.detect(detected(12, 1005), detected(2, 5))


async def assess_both(store: Recorded) -> None:
    facts = []
    for number, event in enumerate((EVENT, OTHER)):
        row = await store.event(event)
        known = row["evidence_revision"], row["evidence_digest"]
        facts += [assessed(event, str(UUID(int=number)), *known)]
    await store.assess(*facts, *reversed(facts))


async def renew_both(store: Recorded) -> None:
    ids = [row["lease_id"] for row in await store.rows("SELECT lease_id FROM jobs ORDER BY subject_id DESC")]
    assert len((await store.leases.renew(list(map(str, ids))))[0]) == 2


async def release_both(store: Recorded) -> None:
    ids = [row["lease_id"] for row in await store.rows("SELECT lease_id FROM jobs ORDER BY subject_id DESC")]
    await store.leases.release(list(map(str, ids)))


OTHER = opened_by(11)


@pytest.mark.parametrize("change", [grow_both, assess_both, renew_both, release_both])
async def test_jobs_are_locked_in_the_order_of_their_subjects(
    store: Recorded, change: Callable[[Recorded], Awaitable[None]]
) -> None:
    await store.detect(detected(11, 1000))
    await store.sweep(after=30)
    assert len(await store.take()) == 2
    async with blocked(store, ONE_JOB, change) as look:
        await look.execute(OTHER_JOB)


async def test_leasing_hastening_and_repairing_deadlines_never_wait(store: Recorded) -> None:
    await store.sweep(after=30)
    await fail(store)
    store.now += timedelta(seconds=1)
    async with store.database.connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM jobs FOR UPDATE")
        async with asyncio.timeout(30):
            assert await store.take() == []
            assert not await store.database.transaction(lambda c: hasten_jobs(c, ASSESS, store.now))
            await store.sweeper.fix_deadlines()
    assert len(await store.take()) == 1


async def test_a_lease_locks_job_rows_only(store: Recorded) -> None:
    """Locks on all other tables do not delay a lease, and its input is complete."""
    await store.sweep(after=30)
    row = await store.event(EVENT)
    async with store.database.connection() as holder, holder.transaction():
        for table in ("cameras", "events", "detections", "feed_head"):
            assert await holder.fetch(f"SELECT FROM {table} FOR UPDATE")
        async with asyncio.timeout(30):
            (lease,) = await store.take()
            assert (await store.leases.renew([lease.lease_id]))[0] == [lease.lease_id]
            await store.leases.release([lease.lease_id])
    evidence = lease.assess.evidence
    assert (lease.subject_id, evidence.event_id, evidence.digest) == (EVENT, EVENT, row["evidence_digest"])
    assert len(evidence.detections) == 1


async def test_several_detectors_are_recorded_in_any_order(store: Recorded) -> None:
    """By two processes at once: neither has written a row while it waits for the other process."""
    one, other = DetectorModel(id="one@1"), DetectorModel(id="other@1")

    async def report(*models: DetectorModel) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await DetectorRecorder().report(connection, models, store.now)

        await store.database.transaction(work)

    await report(one, other)
    async with store.database.connection() as first:
        async with first.transaction():
            await DetectorRecorder().report(first, [one], store.now)
            second = asyncio.ensure_future(report(other, one))
            async with asyncio.timeout(90):
                while not await waiting(store):
                    await asyncio.sleep(0.01)
            await first.execute("SELECT FROM detectors WHERE id = $1 FOR UPDATE NOWAIT", other.id)
        await second
    latest = await Detectors(store.database, store.watch).latest()
    assert latest is not None
    assert latest.id == one.id


async def test_an_event_that_opens_while_its_assessment_is_recorded_keeps_what_joins_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the log is read from its beginning: the camera was not locked, because the event did not exist
    yet. The event grows before the assessment is written."""
    async with open_recorded(postgres_url) as store:
        other = Recorded(store.database)
        opens(monkeypatch, "store_svc.recording.event_assessed", other)
        await store.assess(assessed(EVENT, str(UUID(int=1)), 1, "digest"))
        row = await store.event(EVENT)
        assert (row["detection_count"], row["assessment_id"]) == (2, None)
        assert await store.counts("assessments", "detections") == [1, 2]
        await other.sweep(after=30)
        assert len(await other.take()) == 1  # the input matches its digest


async def test_an_event_that_opens_while_its_reassessment_is_requested_is_not_found(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_recorded(postgres_url) as store:
        opens(monkeypatch, "store_svc.reassessments", Recorded(store.database))
        with pytest.raises(NotFound):
            await ask(store)
        assert await store.job(EVENT) is None


def opens(monkeypatch: pytest.MonkeyPatch, module: str, other: Recorded) -> None:
    """Opens the event after `module` has locked the cameras, and adds a photo after it has loaded events."""

    async def lock(connection: asyncpg.Connection, ids: Collection[UUID]) -> dict[str, str]:
        names = await lock_cameras(connection, ids)
        await other.detect(detected(1, 0), partition=1)
        return names

    async def load(connection: asyncpg.Connection, ids: Collection[UUID]) -> dict[UUID, QueuedEvent]:
        queue = await load_queued(connection, ids)
        assert len(queue) == 1
        await other.detect(detected(2, 5), partition=1)
        return queue

    monkeypatch.setattr(f"{module}.lock_cameras", lock)
    monkeypatch.setattr(f"{module}.load_queued", load)
