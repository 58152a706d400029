"""Leases of jobs, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest

from lares.store.internal.v1.job_service_pb2 import JobLease
from mesh.boxes import bounding_box
from mesh.problems import Invalid
from store_svc.commit_signals import CommitSignal
from store_svc.database import Connection, Database, tables
from store_svc.domain.evidence import EarlierEvent, digest_v1
from store_svc.domain.job import ASSESS
from store_svc.job_leases import JobKind, JobLeases
from store_svc.queries.assess_inputs import AssessInputs
from store_svc.queries.evidence import EvidenceReader
from store_svc.read_progress import ReadProgress
from store_svc.sweep import Sweep, facts_reached
from tests.support.store_rows import (
    NOON,
    at,
    camera_row,
    detection_row,
    due_rows,
    event_row,
    open_store_database,
    write,
    write_due,
)

SECONDS = 60.0


class ObservedSignal(CommitSignal):
    """Shows when a call waits for it."""

    def __init__(self, *, alone: bool = False) -> None:
        super().__init__(alone=alone)
        self.waited = asyncio.Event()

    def upcoming(self) -> asyncio.Event:
        event = super().upcoming()
        plain = event.wait

        async def wait() -> Literal[True]:
            self.waited.set()
            return await plain()

        event.wait = wait  # type: ignore[method-assign]
        return event


@dataclass
class FactsTopic:
    """A topic of facts with one partition: its end, and how far the store has read it."""

    end: int = 0
    read: int = 0

    async def ends(self) -> dict[int, int]:
        return {0: self.end}

    async def behind(self, ends: Mapping[int, int]) -> int:
        return max(0, ends[0] - self.read)


@dataclass
class JobQueueUnderTest:
    """JobLeases with an adjustable clock and access to the rows."""

    database: Database
    due: ObservedSignal = field(default_factory=ObservedSignal)
    topic: FactsTopic = field(default_factory=FactsTopic)
    now: datetime = NOON

    def __post_init__(self) -> None:
        self.facts = ReadProgress(self.topic.ends, self.topic.behind, lambda: self.now)
        self.sweep = Sweep(self.database, 30.0, SECONDS, lambda: self.now)
        self.leases = self.another()

    def another(self) -> JobLeases:
        """Returns the same queue as another store process sees it."""
        kinds = {ASSESS: JobKind(self.facts, AssessInputs(EvidenceReader()).read)}
        return JobLeases(self.database, kinds, self.due, SECONDS, lambda: self.now)

    async def put(self, **changes: Any) -> str:
        (id,) = await write_due(self.database, due_rows(**changes))
        return id

    async def lease(self, max_jobs: int = 10) -> list[JobLease]:
        return await self.leases.lease(ASSESS, max_jobs, 0.0)

    async def lease_subjects(self, max_jobs: int = 10) -> list[str]:
        return [lease.subject_id for lease in await self.lease(max_jobs)]

    async def row(self, event_id: str) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchrow("SELECT * FROM jobs WHERE subject_id = $1", event_id)

    async def swept_by_store(self, ahead: float) -> None:
        """Another store, whose clock is `ahead` of this one's by so many seconds, does the first part of its
        sweep."""
        clock = self.now + timedelta(seconds=ahead)
        await Sweep(self.database, 30.0, SECONDS, lambda: clock).fix_deadlines()

    async def facts_reached(self) -> None:
        """Does what the store's sweep does once a second."""
        if expired := await self.sweep.last_expiry(ASSESS):
            await facts_reached(self.facts, expired)


@pytest.fixture
async def queue(postgres_url: str) -> AsyncIterator[JobQueueUnderTest]:
    async with open_store_database(postgres_url) as database:
        queue = JobQueueUnderTest(database)
        await queue.facts.update()
        yield queue


async def test_many_workers_lease_each_event_once(queue: JobQueueUnderTest) -> None:
    due = {await queue.put(started_at=at(n)) for n in range(60)}

    async def worker() -> list[str]:
        leased, leases = [], queue.another()
        while found := await leases.lease(ASSESS, 3, 0.0):
            leased += [lease.subject_id for lease in found]
        return leased

    shares = await asyncio.gather(*[worker() for _ in range(6)])
    leased = [id for share in shares for id in share]
    # A job that another process is just leasing is skipped, so a worker may have stopped early. No job is
    # leased twice.
    leased += await queue.lease_subjects(100)
    assert sorted(leased) == sorted(due)


async def test_urgent_before_recent_before_old(queue: JobQueueUnderTest) -> None:
    old = await queue.put(started_at=at(0))
    recent = await queue.put(started_at=at(10))
    urgent_old = await queue.put(started_at=at(-100), priority=1)
    urgent = await queue.put(started_at=at(-50), priority=1)
    assert await queue.lease_subjects(3) == [urgent, urgent_old, recent]
    assert await queue.lease_subjects() == [old]


async def test_a_job_that_is_not_due_is_not_leased(queue: JobQueueUnderTest) -> None:
    await write(queue.database, tables.events, event_row())
    await queue.put(due_at=at(5))
    assert await queue.lease() == []
    queue.now = at(5)
    assert len(await queue.lease()) == 1


async def test_a_lease_contains_the_whole_evidence(queue: JobQueueUnderTest) -> None:
    event_id, past = uuid4(), EarlierEvent(uuid4(), 1_000_001)
    found = [
        detection_row(event_id=event_id, captured_at=at(seconds), score=score)
        for seconds, score in [(2, 0.9), (1, 0.25), (1, 0.75)]
    ]
    ids = [row["id"] for row in found]
    digest = digest_v1(ids, (past,), "Europe/Berlin")
    await write(queue.database, tables.cameras, camera_row("front", display_name="Front door"))
    await write(queue.database, tables.detections, *found, detection_row())
    await queue.put(
        id=event_id,
        started_at=at(1),
        ended_at=at(2),
        revision=7,
        evidence_revision=5,
        evidence_digest=digest,
        time_zone="Europe/Berlin",
        history=[[str(past.event_id), past.started_at]],
        attempts=2,
    )
    (lease,) = await queue.lease()
    assert lease.subject_id == str(event_id)
    evidence = lease.assess.evidence
    assert lease.attempt == 3
    assert lease.expires_at.ToDatetime(NOON.tzinfo) == NOON + timedelta(seconds=SECONDS)
    assert (evidence.revision, evidence.digest) == (5, digest)
    assert (evidence.camera_id, evidence.camera_name) == ("front", "Front door")
    assert evidence.time_zone == "Europe/Berlin"
    assert (evidence.started_at.ToDatetime(NOON.tzinfo), evidence.ended_at.ToDatetime(NOON.tzinfo)) == (
        at(1),
        at(2),
    )
    assert [detection.id for detection in evidence.detections] == [str(ids[2]), str(ids[1]), str(ids[0])]
    assert evidence.detections[0].bounding_box == bounding_box([0.25, 0.25, 0.5, 0.75])
    assert [(p.event_id, p.started_at.ToMicroseconds()) for p in evidence.history] == [
        (str(past.event_id), past.started_at)
    ]


async def test_a_lease_expires(queue: JobQueueUnderTest) -> None:
    event_id = await queue.put()
    (first,) = await queue.lease()
    queue.now += timedelta(seconds=SECONDS - 1)
    assert await queue.lease() == []
    queue.now += timedelta(seconds=1)
    await queue.facts_reached()
    (second,) = await queue.lease()
    assert second.subject_id == event_id
    assert second.lease_id != first.lease_id
    assert (await queue.leases.renew([first.lease_id, second.lease_id]))[0] == [second.lease_id]


async def test_a_lease_from_before_the_clock_was_set_back_has_expired(queue: JobQueueUnderTest) -> None:
    event_id = await queue.put(due_at=at(-7200))
    await queue.lease()
    queue.now -= timedelta(hours=1)
    await queue.sweep.fix_deadlines()
    await queue.facts_reached()
    assert await queue.lease_subjects() == [event_id]
    assert (await queue.row(event_id))["leased_until"] == queue.now + timedelta(seconds=SECONDS)


async def test_a_retry_from_before_the_clock_was_set_back_is_due(queue: JobQueueUnderTest) -> None:
    await queue.put(due_at=at(300 + SECONDS))
    wrong = await queue.put(due_at=at(301 + SECONDS))
    assert await queue.lease_subjects() == [wrong]


@pytest.mark.parametrize("behind", [0.001, 1.0, SECONDS])
async def test_a_lease_is_kept_by_a_store_whose_clock_is_behind(
    queue: JobQueueUnderTest, behind: float
) -> None:
    """Two stores never have quite the same time, and each of them sweeps once a second."""
    event_id = await queue.put()
    (lease,) = await queue.lease()
    await queue.swept_by_store(-behind)
    assert (await queue.row(event_id))["leased_until"] == queue.now + timedelta(seconds=SECONDS)
    await queue.facts_reached()
    assert await queue.lease() == []
    assert (await queue.leases.renew([lease.lease_id]))[0] == [lease.lease_id]


@pytest.mark.parametrize("behind", [0.001, 1.0, SECONDS])
@pytest.mark.parametrize(("attempts", "pause"), [(1, 1.0), (30, 300.0)])
async def test_a_pause_is_kept_by_a_store_whose_clock_is_behind(
    queue: JobQueueUnderTest, behind: float, attempts: int, pause: float
) -> None:
    event_id = await queue.put(due_at=at(pause), attempts=attempts, failed=True)
    await queue.swept_by_store(-behind)
    assert (await queue.row(event_id))["due_at"] == at(pause)
    queue.now -= timedelta(seconds=behind)
    assert await queue.lease() == []


async def test_a_renewed_lease_is_kept(queue: JobQueueUnderTest) -> None:
    await queue.put()
    (lease,) = await queue.lease()
    for _ in range(4):
        queue.now += timedelta(seconds=SECONDS - 1)
        held, until = await queue.leases.renew([lease.lease_id, str(uuid4())])
        assert held == [lease.lease_id]
        assert until == queue.now + timedelta(seconds=SECONDS)
        assert await queue.lease() == []


async def test_the_lease_of_an_assessed_event_has_ended(queue: JobQueueUnderTest) -> None:
    event_id = await queue.put()
    (lease,) = await queue.lease()
    async with queue.database.connection() as connection:
        await connection.execute("DELETE FROM jobs WHERE subject_id = $1", event_id)
    assert (await queue.leases.renew([lease.lease_id]))[0] == []
    await queue.leases.release([lease.lease_id])
    assert await queue.row(event_id) is None


async def test_a_released_job_is_leased_again_with_the_same_attempt(queue: JobQueueUnderTest) -> None:
    event_id = await queue.put(attempts=1)
    (lease,) = await queue.lease()
    await queue.leases.release([lease.lease_id])
    assert (await queue.row(event_id))["waiting_since"] == NOON
    assert await queue.lease() == []
    assert (await queue.leases.renew([lease.lease_id]))[0] == []
    queue.now += timedelta(seconds=2)
    (again,) = await queue.lease()
    assert (again.subject_id, again.attempt) == (event_id, 2)


async def test_a_malformed_lease_id_is_refused(queue: JobQueueUnderTest) -> None:
    with pytest.raises(Invalid):
        await queue.leases.renew(["mine"])


async def test_a_waiting_call_is_woken(queue: JobQueueUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store_svc.job_leases.POLL_SECONDS", 60.0)
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    await asyncio.wait_for(queue.due.waited.wait(), 90)
    event_id = await queue.put()
    queue.due.notify()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


async def test_a_waiting_call_finds_what_another_process_wrote(queue: JobQueueUnderTest) -> None:
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    await asyncio.wait_for(queue.due.waited.wait(), 90)
    event_id = await queue.put()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


class TestWithoutOtherProcesses:
    """The queue is hardly polled then."""

    @pytest.fixture
    async def queue(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[JobQueueUnderTest]:
        monkeypatch.setattr("store_svc.commit_signals.ALONE_SECONDS", 3600.0)
        async with open_store_database(postgres_url) as database:
            queue = JobQueueUnderTest(database, ObservedSignal(alone=True))
            await queue.facts.update()
            yield queue

    async def leased(self, queue: JobQueueUnderTest, *, after: float) -> str:
        """Leases one job, and lets that much time pass as soon as the call waits. Returns the subject."""
        waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 3600.0))
        await asyncio.wait_for(queue.due.waited.wait(), 90)
        queue.now += timedelta(seconds=after)
        (lease,) = await asyncio.wait_for(waiting, 90)
        return lease.subject_id

    async def test_a_job_is_leased_when_its_pause_ends(self, queue: JobQueueUnderTest) -> None:
        await queue.put(due_at=at(50))
        event_id = await queue.put(due_at=at(0.3))
        assert await self.leased(queue, after=0.3) == event_id

    async def test_a_released_job_is_leased_again(self, queue: JobQueueUnderTest) -> None:
        event_id = await queue.put()
        (lease,) = await queue.lease()
        waiting = asyncio.create_task(self.leased(queue, after=0.0))
        await asyncio.wait_for(queue.due.waited.wait(), 90)
        await queue.leases.release([lease.lease_id])
        queue.now += timedelta(seconds=1)
        assert await waiting == event_id

    async def test_a_job_is_leased_that_was_locked_at_first(self, queue: JobQueueUnderTest) -> None:
        event_id = await queue.put()

        async def lock(connection: Connection) -> str:
            await connection.execute("SELECT 1 FROM jobs FOR UPDATE")
            waiting = asyncio.create_task(self.leased(queue, after=0.0))
            await asyncio.wait_for(queue.due.waited.wait(), 90)
            leasing.append(waiting)
            return event_id

        leasing: list[asyncio.Task[str]] = []
        await queue.database.transaction(lock)
        assert await leasing[0] == event_id


async def test_a_call_waits_no_longer_than_asked(queue: JobQueueUnderTest) -> None:
    assert await asyncio.wait_for(queue.leases.lease(ASSESS, 1, 0.2), 90) == []


async def test_nothing_is_leased_before_the_facts_from_before_the_start_are_read(
    queue: JobQueueUnderTest,
) -> None:
    event_id = await queue.put()
    queue.topic.end = 7
    queue.facts = ReadProgress(queue.topic.ends, queue.topic.behind, lambda: queue.now)
    queue.leases = queue.another()
    assert not await queue.facts.update()
    assert await queue.leases.lease(ASSESS, 1, 0.1) == []
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    # Facts that were written later do not count.
    queue.topic.end, queue.topic.read = 9, 7
    assert await queue.facts.update()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


class TestAfterALeaseExpired:
    """The worker may have published its fact just before."""

    async def test_it_waits_for_the_facts_up_to_the_expiry(self, queue: JobQueueUnderTest) -> None:
        await queue.put()
        (first,) = await queue.lease()
        queue.topic.end = 5  # published while it was leased
        queue.now += timedelta(seconds=SECONDS)
        for read in (0, 4):
            queue.topic.read = read
            await queue.facts_reached()
            assert await queue.lease() == []
        queue.topic.end, queue.topic.read = 100, 5
        await queue.facts_reached()
        (second,) = await queue.lease()
        assert second.subject_id == first.subject_id

    async def test_the_end_of_the_topic_from_before_the_expiry_does_not_count(
        self, queue: JobQueueUnderTest
    ) -> None:
        await queue.put()
        await queue.lease()
        queue.now += timedelta(seconds=SECONDS - 1)
        assert await queue.facts.update()
        queue.now += timedelta(seconds=1)
        assert await queue.lease() == []
        await queue.facts_reached()
        assert len(await queue.lease()) == 1

    async def test_the_end_seen_before_the_clock_was_set_back_does_not_count(
        self, queue: JobQueueUnderTest
    ) -> None:
        queue.now += timedelta(hours=1)
        await queue.facts.update()
        queue.now -= timedelta(hours=1)
        await queue.put()
        assert len(await queue.lease()) == 1
        queue.now += timedelta(seconds=SECONDS)
        assert await queue.lease() == []
        queue.now += timedelta(hours=2)  # later than the time at which that end was seen
        assert await queue.lease() == []
        await queue.facts_reached()
        assert len(await queue.lease()) == 1

    async def test_only_the_expired_job_waits(self, queue: JobQueueUnderTest) -> None:
        expired = await queue.put()
        await queue.lease()
        queue.now += timedelta(seconds=SECONDS)
        other = await queue.put()
        assert await queue.lease_subjects() == [other]
        await queue.facts_reached()
        assert await queue.lease_subjects() == [expired]


async def test_a_job_whose_evidence_does_not_match_its_digest_is_not_leased(queue: JobQueueUnderTest) -> None:
    """Nor does it delay other jobs."""
    good = await queue.put(started_at=at(-9))
    torn = await queue.put()
    other_input = await queue.put(input_digest="of other evidence")
    await write(queue.database, tables.detections, detection_row(event_id=UUID(torn)))
    assert await queue.lease_subjects(1) == [good]
    assert await queue.lease_subjects(1) == []
    assert {(await queue.row(id))["attempts"] for id in (torn, other_input)} == {0}
    async with queue.database.connection() as connection:
        await connection.execute("DELETE FROM detections")
    queue.now += timedelta(seconds=SECONDS)
    await queue.facts_reached()
    assert torn in await queue.lease_subjects()
