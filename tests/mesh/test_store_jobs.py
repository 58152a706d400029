"""The job queue under concurrency and across restarts, on a real PostgreSQL and a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.bus import Bus, Stream, open_bus
from mesh.topics import ASSESSED, Topic
from store_svc.domain.job import ASSESS, Request
from store_svc.job_leases import JobKind, JobLeases
from store_svc.job_queue import hasten_jobs, release_leases
from store_svc.queries.assess_inputs import AssessInputs
from store_svc.queries.evidence import EvidenceReader
from store_svc.read_progress import ReadProgress
from store_svc.recording.event_assessed import EventAssessedRecorder
from store_svc.sweep import facts_reached
from tests.support.facts import assessed, detected, failed, opened_by
from tests.support.recorded import LEASE_SECONDS, Recorded, open_recorded
from tests.support.records import unique

EVENT = opened_by(1)
FIRST, SECOND = (str(UUID(int=n)) for n in (1, 2))
REQUEST = Request(UUID(int=71), "another", "v2")


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def is_consistent(store: Recorded, lease: JobLease) -> bool:
    """Returns whether the digest of the leased evidence is that of its detections and of what was frozen."""
    evidence = lease.assess.evidence
    ids = [detection.id for detection in evidence.detections]
    tracked = {index for track in evidence.tracks for index in track.detection_indexes}
    return evidence.digest == await store.digest(lease.subject_id, *ids) and len(tracked) == len(ids)


async def test_leased_evidence_is_consistent_while_frames_join(store: Recorded) -> None:
    seen: set[int] = set()
    await store.detect(detected(1, 0, urgent=True))

    async def grow() -> None:
        for n in range(2, 200):
            await store.detect(detected(n, n / 10, labels=["person"] * (1 + n % 3)))

    async def lease() -> None:
        other = Recorded(store.database)
        while not growing.done():
            for lease in await other.take():
                assert await is_consistent(store, lease)
                seen.add(lease.assess.evidence.revision)
                ids = [lease.lease_id]
                await store.database.transaction(lambda c, ids=ids: release_leases(c, ids, store.now))  # type: ignore[misc]

    async with asyncio.TaskGroup() as group:
        growing = group.create_task(grow())
        for _ in range(3):
            group.create_task(lease())
    assert len(seen) > 20
    (last,) = await store.take()  # no job was skipped because of its digest
    assert last.assess.evidence.revision == 199


@dataclass
class ConcurrentUse:
    """Everything that uses jobs, concurrently, as if in separate processes."""

    database: Recorded
    chance: Random = field(default_factory=lambda: Random(7))
    photo: int = 100
    done: dict[str, int] = field(default_factory=dict)
    leases: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        self.done[what] = self.done.get(what, 0) + number

    async def events(self, most: int) -> list[asyncpg.Record]:
        rows = await self.database.rows("SELECT id, evidence_revision, evidence_digest FROM events")
        return self.chance.sample(rows, min(most, len(rows)))

    async def grow(self, store: Recorded, number: int) -> None:
        photos = []
        for _ in range(6):
            self.photo += 1
            at, camera = (
                self.chance.randrange(6) * 1000 + self.chance.uniform(0, 80),
                self.chance.randrange(5),
            )
            urgent = self.chance.random() < 0.5
            photos.append(detected(self.photo, at, camera=f"cam{camera}", urgent=urgent))
        await store.detect(*photos, partition=number)
        self.count("grown")

    async def assess(self, store: Recorded, number: int) -> None:
        facts: list[EventAssessed] = []
        for row in await self.events(8):
            tell = failed if self.chance.random() < 0.6 else assessed
            facts.append(tell(str(row["id"]), str(uuid4()), row["evidence_revision"], row["evidence_digest"]))
        await store.assess(*facts, partition=number)
        self.count("assessed")

    async def lease(self, store: Recorded, number: int) -> None:
        taken = await store.take(8)
        assert all([await is_consistent(store, lease) for lease in taken])
        self.leases = [lease.lease_id for lease in taken] + self.leases[:30]
        self.count("leased", len(taken))

    async def renew(self, store: Recorded, number: int) -> None:
        held, _ = await store.leases.renew(self.chance.sample(self.leases, len(self.leases)))
        self.count("renewed", len(held))

    async def release(self, store: Recorded, number: int) -> None:
        await store.leases.release(self.chance.sample(self.leases, len(self.leases) // 2))
        self.count("released")

    async def ask(self, store: Recorded, number: int) -> None:
        for row in await self.events(1):
            await store.reassessments.request(row["id"], Request(uuid4()))
        self.count("asked")

    async def sweep(self, store: Recorded, number: int) -> None:
        self.database.now += timedelta(seconds=40)
        store.now = self.database.now
        await store.sweep()
        self.count("swept")


async def test_concurrent_use_causes_no_deadlock(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are leased, renewed, released and hastened while events grow and are requested and closed."""

    async def hasten(connection: asyncpg.Connection, kind: int, now: datetime) -> bool:
        hastened = await hasten_jobs(connection, kind, now)
        use.count("hastened", hastened)
        return hastened

    monkeypatch.setattr("store_svc.recording.event_assessed.hasten_jobs", hasten)
    async with open_recorded(postgres_url) as look:
        use = ConcurrentUse(look)
        until = asyncio.get_running_loop().time() + 6.0

        async def keep(act: Callable[[Recorded, int], Awaitable[None]], number: int) -> None:
            store = Recorded(look.database)
            while asyncio.get_running_loop().time() < until:
                store.now = look.now
                await act(store, number)

        acts = [use.grow, use.assess, use.lease, use.renew, use.release, use.ask]
        async with asyncio.TaskGroup() as group:
            for number, act in enumerate([*acts, use.grow, use.assess, use.renew, use.sweep]):
                group.create_task(keep(act, number))
        rows = await look.rows(
            "SELECT count(*) FILTER (WHERE input_digest <> evidence_digest OR rank_time <> started_at),"
            " count(*) FILTER"
            " (WHERE j.id IS NULL AND closed AND evidence_digest IS DISTINCT FROM assessed_digest)"
            " FROM events e LEFT JOIN jobs j ON j.subject_id = e.id AND j.kind = 1"
        )
        assert [tuple(row) for row in rows] == [(0, 0)]
    acted = {"grown", "assessed", "leased", "renewed", "released", "asked", "swept", "hastened"}
    assert {what for what, number in use.done.items() if number} == acted
    assert await deadlocks(postgres_url) == 0  # the sessions above have ended and reported their counts


async def deadlocks(url: str) -> int:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def evidence(store: Recorded) -> tuple[int, str]:
    row = await store.event(EVENT)
    return row["evidence_revision"], row["evidence_digest"]


async def test_a_request_during_an_assessment_is_answered(store: Recorded) -> None:
    await store.detect(detected(1, 0))
    await store.sweep(after=30)
    (ordinary,) = await store.take()
    await store.reassessments.request(UUID(EVENT), REQUEST)
    await store.assess(assessed(EVENT, FIRST, *await evidence(store)))
    (asked,) = await store.take()
    assert not ordinary.assess.HasField("request")
    assert asked.assess.request.request_id == str(REQUEST.id)
    await store.assess(assessed(EVENT, SECOND, *await evidence(store), request=str(REQUEST.id)))
    assert str((await store.event(EVENT))["assessment_id"]) == SECOND
    assert await store.job(EVENT) is None


async def test_an_assessment_of_old_evidence_keeps_the_job_of_newer_evidence(store: Recorded) -> None:
    await store.detect(detected(1, 0))
    await store.sweep(after=30)
    (old,) = await store.take()
    await store.detect(detected(2, 10))
    await store.sweep(after=30)
    known = old.assess.evidence
    await store.assess(assessed(EVENT, FIRST, known.revision, known.digest))
    (new,) = await store.take()
    assert new.assess.evidence.digest == (await evidence(store))[1] != known.digest
    await store.assess(assessed(EVENT, SECOND, *await evidence(store)))
    assert await store.job(EVENT) is None


@dataclass
class Process:
    """One store process, which reads the topic of the assessments only when the test says so."""

    store: Recorded
    stream: Stream[EventAssessed]
    bus: Bus
    topic: Topic[EventAssessed]

    def __post_init__(self) -> None:
        self.facts = ReadProgress(self.stream.ends, self.stream.behind, lambda: self.store.now)
        kinds = {ASSESS: JobKind(self.facts, AssessInputs(EvidenceReader()).read)}
        clock = lambda: self.store.now  # noqa: E731
        self.leases = JobLeases(self.store.database, kinds, self.store.signals.due, LEASE_SECONDS, clock)

    async def take(self) -> list[JobLease]:
        return await self.leases.lease(ASSESS, 9, 0.0)

    async def answer(self, lease: JobLease) -> None:
        """Publishes an assessment, as the worker does."""
        known = lease.assess.evidence
        await self.bus.publish(self.topic, assessed(EVENT, FIRST, known.revision, known.digest))

    async def read(self) -> None:
        """Records the next batch."""
        async with asyncio.timeout(90):
            async for batch in self.stream.batches(100):
                await self.store.assessed.process(self.stream, batch)
                return

    async def until_read(self, look: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(90):
            while not await look():
                await asyncio.sleep(0.02)


class TestAcrossARestart:
    """A worker has published an assessment that the store has not read yet."""

    @pytest.fixture
    async def lives(
        self, store: Recorded, kafka_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Any]:
        topic = replace(ASSESSED, name=unique(ASSESSED.name))
        monkeypatch.setattr(EventAssessedRecorder, "topic", topic)
        async with open_bus(kafka_url, client_id="jobs", instance=unique("jobs")) as bus:
            await bus.create_topics([topic])

            @asynccontextmanager
            async def live() -> AsyncIterator[Process]:
                life = Recorded(store.database, now=store.now)
                async with bus.consume(topic, "store_svc", offsets=life.offsets) as stream:
                    yield Process(life, stream, bus, topic)

            yield live

    @pytest.mark.parametrize("released", [False, True])
    async def test_a_job_that_was_assessed_before_the_restart_is_not_leased_again(
        self, store: Recorded, lives: Any, released: bool
    ) -> None:
        """Its lease has expired, or its worker has released it, as the broker did not answer in time."""
        await store.detect(detected(1, 0, urgent=True))
        async with lives() as before:
            await before.until_read(before.facts.update)
            (lease,) = await before.take()
            await before.answer(lease)
            if released:
                await before.leases.release([lease.lease_id])
        store.now += timedelta(seconds=LEASE_SECONDS)
        async with lives() as after:
            assert not await after.facts.update()
            assert await after.take() == []
            await after.read()
            await after.until_read(after.facts.update)
            assert await after.take() == []
        assert (await store.event(EVENT))["assessment_id"] == UUID(FIRST)

    async def test_a_job_that_was_assessed_before_its_lease_expired_is_not_leased_again(
        self, store: Recorded, lives: Any
    ) -> None:
        await store.detect(detected(1, 0, urgent=True))
        async with lives() as life:
            await life.until_read(life.facts.update)
            (lease,) = await life.take()
            await life.answer(lease)
            life.store.now += timedelta(seconds=LEASE_SECONDS)
            expired = await life.store.sweeper.last_expiry(ASSESS)
            assert expired == life.store.now
            assert not await facts_reached(life.facts, expired)
            assert await life.take() == []
            await life.read()
            await life.until_read(lambda: facts_reached(life.facts, expired))
            assert await life.take() == []
        assert (await store.event(EVENT))["assessment_id"] == UUID(FIRST)

    async def test_a_job_that_was_not_assessed_is_leased_again(self, store: Recorded, lives: Any) -> None:
        await store.detect(detected(1, 0, urgent=True))
        async with lives() as life:
            await life.until_read(life.facts.update)
            (dead,) = await life.take()
            life.store.now += timedelta(seconds=LEASE_SECONDS)
            expired = await life.store.sweeper.last_expiry(ASSESS)
            await life.until_read(lambda: facts_reached(life.facts, expired))
            (lease,) = await life.take()
            assert (lease.subject_id, lease.lease_id != dead.lease_id) == (EVENT, True)
