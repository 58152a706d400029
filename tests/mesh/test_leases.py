"""The queue of jobs, on a real PostgreSQL."""

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
from store_svc.database import Database, tables
from store_svc.domain.evidence import EarlierEvent, evidence_digest
from store_svc.domain.job import ASSESS
from store_svc.job_leases import JobKind, JobLeases
from store_svc.queries.assess_inputs import read_assess_inputs
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


class Watched(CommitSignal):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
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
class Topic:
    """Of the facts: its end, and how far it was read."""

    end: int = 0
    read: int = 0

    async def ends(self) -> dict[int, int]:
        return {0: self.end}

    async def behind(self, ends: Mapping[int, int]) -> int:
        return max(0, ends[0] - self.read)


@dataclass
class Queue:
    """JobLeases with a clock to turn, and a look at the rows."""

    database: Database
    due: Watched = field(default_factory=Watched)
    topic: Topic = field(default_factory=Topic)
    now: datetime = NOON

    def __post_init__(self) -> None:
        self.facts = ReadProgress(self.topic.ends, self.topic.behind, lambda: self.now)
        self.sweep = Sweep(self.database, 30.0, SECONDS, lambda: self.now)
        self.leases = self.another()

    def another(self) -> JobLeases:
        """The same queue as a second judge sees it."""
        kinds = {ASSESS: JobKind(self.facts, read_assess_inputs)}
        return JobLeases(self.database, kinds, self.due, SECONDS, lambda: self.now)

    async def put(self, **changes: Any) -> str:
        (id,) = await write_due(self.database, due_rows(**changes))
        return id

    async def take(self, most: int = 10) -> list[JobLease]:
        return await self.leases.lease(ASSESS, most, 0.0)

    async def taken(self, most: int = 10) -> list[str]:
        return [lease.subject_id for lease in await self.take(most)]

    async def row(self, event_id: str) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchrow("SELECT * FROM jobs WHERE subject_id = $1", event_id)

    async def facts_reached(self) -> None:
        """As the store's sweep does once a second."""
        if expired := await self.sweep.last_expiry():
            await facts_reached(self.facts, expired)


@pytest.fixture
async def queue(postgres_url: str) -> AsyncIterator[Queue]:
    async with open_store_database(postgres_url) as database:
        queue = Queue(database)
        await queue.facts.update()
        yield queue


async def test_many_judges_get_each_event_once(queue: Queue) -> None:
    due = {await queue.put(started_at=at(n)) for n in range(60)}

    async def judge() -> list[str]:
        mine, leases = [], queue.another()
        while found := await leases.lease(ASSESS, 3, 0.0):
            mine += [lease.subject_id for lease in found]
        return mine

    shares = await asyncio.gather(*[judge() for _ in range(6)])
    handed_out = [id for share in shares for id in share]
    # What another was just taking is skipped, so a judge may have left early: nobody does twice.
    handed_out += await queue.taken(100)
    assert sorted(handed_out) == sorted(due)


async def test_urgent_before_recent_before_old(queue: Queue) -> None:
    old = await queue.put(started_at=at(0))
    recent = await queue.put(started_at=at(10))
    urgent_old = await queue.put(started_at=at(-100), priority=1)
    urgent = await queue.put(started_at=at(-50), priority=1)
    assert await queue.taken(3) == [urgent, urgent_old, recent]
    assert await queue.taken() == [old]


async def test_what_is_not_due_stays(queue: Queue) -> None:
    await write(queue.database, tables.events, event_row())
    await queue.put(due_at=at(5))
    assert await queue.take() == []
    queue.now = at(5)
    assert len(await queue.take()) == 1


async def test_a_lease_says_all_of_the_evidence(queue: Queue) -> None:
    event_id, past = uuid4(), EarlierEvent(uuid4(), 1_000_001)
    found = [
        detection_row(event_id=event_id, captured_at=at(seconds), score=score)
        for seconds, score in [(2, 0.9), (1, 0.25), (1, 0.75)]
    ]
    ids = [row["id"] for row in found]
    digest = evidence_digest(ids, (past,), "Europe/Berlin")
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
    (lease,) = await queue.take()
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


async def test_a_lease_ends_with_its_time(queue: Queue) -> None:
    event_id = await queue.put()
    (first,) = await queue.take()
    queue.now += timedelta(seconds=SECONDS - 1)
    assert await queue.take() == []
    queue.now += timedelta(seconds=1)
    await queue.facts_reached()
    (second,) = await queue.take()
    assert second.subject_id == event_id
    assert second.lease_id != first.lease_id
    assert (await queue.leases.renew([first.lease_id, second.lease_id]))[0] == [second.lease_id]


async def test_a_lease_from_before_the_clock_was_set_back_is_over(queue: Queue) -> None:
    event_id = await queue.put(due_at=at(-7200))
    await queue.take()
    queue.now -= timedelta(hours=1)
    await queue.sweep.fix_deadlines()
    await queue.facts_reached()
    assert await queue.taken() == [event_id]
    assert (await queue.row(event_id))["leased_until"] == queue.now + timedelta(seconds=SECONDS)


async def test_a_retry_from_before_the_clock_was_set_back_is_due(queue: Queue) -> None:
    await queue.put(due_at=at(300))
    wrong = await queue.put(due_at=at(301))
    assert await queue.taken() == [wrong]


async def test_a_renewed_lease_is_kept(queue: Queue) -> None:
    await queue.put()
    (lease,) = await queue.take()
    for _ in range(4):
        queue.now += timedelta(seconds=SECONDS - 1)
        held, until = await queue.leases.renew([lease.lease_id, str(uuid4())])
        assert held == [lease.lease_id]
        assert until == queue.now + timedelta(seconds=SECONDS)
        assert await queue.take() == []


async def test_a_judged_event_is_no_longer_held(queue: Queue) -> None:
    event_id = await queue.put()
    (lease,) = await queue.take()
    async with queue.database.connection() as connection:
        await connection.execute("DELETE FROM jobs WHERE subject_id = $1", event_id)
    assert (await queue.leases.renew([lease.lease_id]))[0] == []
    await queue.leases.release([lease.lease_id])
    assert await queue.row(event_id) is None


async def test_a_released_event_comes_again_and_no_attempt_counts(queue: Queue) -> None:
    event_id = await queue.put(attempts=1)
    (lease,) = await queue.take()
    await queue.leases.release([lease.lease_id])
    assert (await queue.row(event_id))["waiting_since"] == NOON
    assert await queue.take() == []
    assert (await queue.leases.renew([lease.lease_id]))[0] == []
    queue.now += timedelta(seconds=2)
    (again,) = await queue.take()
    assert (again.subject_id, again.attempt) == (event_id, 2)


async def test_a_lease_id_that_is_none_is_refused(queue: Queue) -> None:
    with pytest.raises(Invalid):
        await queue.leases.renew(["mine"])


async def test_who_waits_is_woken(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store_svc.job_leases.POLL_SECONDS", 60.0)
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    await asyncio.wait_for(queue.due.waited.wait(), 90)
    event_id = await queue.put()
    queue.due.notify()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


async def test_who_waits_finds_what_another_process_wrote(queue: Queue) -> None:
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    await asyncio.wait_for(queue.due.waited.wait(), 90)
    event_id = await queue.put()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


async def test_nobody_waits_longer_than_asked(queue: Queue) -> None:
    assert await asyncio.wait_for(queue.leases.lease(ASSESS, 1, 0.2), 90) == []


async def test_nothing_is_handed_out_before_the_facts_of_before_the_start_are_read(queue: Queue) -> None:
    event_id = await queue.put()
    queue.topic.end = 7
    queue.facts = ReadProgress(queue.topic.ends, queue.topic.behind, lambda: queue.now)
    queue.leases = queue.another()
    assert not await queue.facts.update()
    assert await queue.leases.lease(ASSESS, 1, 0.1) == []
    waiting = asyncio.create_task(queue.leases.lease(ASSESS, 1, 30.0))
    # More have come meanwhile: they are none of those.
    queue.topic.end, queue.topic.read = 9, 7
    assert await queue.facts.update()
    (lease,) = await asyncio.wait_for(waiting, 90)
    assert lease.subject_id == event_id


class TestAfterAnExpiry:
    """The worker may have told its fact just before."""

    async def test_waits_for_the_facts_of_until_then(self, queue: Queue) -> None:
        await queue.put()
        (first,) = await queue.take()
        queue.topic.end = 5  # told while it was leased
        queue.now += timedelta(seconds=SECONDS)
        for read in (0, 4):
            queue.topic.read = read
            await queue.facts_reached()
            assert await queue.take() == []
        queue.topic.end, queue.topic.read = 100, 5
        await queue.facts_reached()
        (second,) = await queue.take()
        assert second.subject_id == first.subject_id

    async def test_an_end_of_before_it_does_not_count(self, queue: Queue) -> None:
        await queue.put()
        await queue.take()
        queue.now += timedelta(seconds=SECONDS - 1)
        assert await queue.facts.update()
        queue.now += timedelta(seconds=1)
        assert await queue.take() == []
        await queue.facts_reached()
        assert len(await queue.take()) == 1

    async def test_nor_does_one_by_a_clock_since_set_back(self, queue: Queue) -> None:
        queue.now += timedelta(hours=1)
        await queue.facts.update()
        queue.now -= timedelta(hours=1)
        await queue.put()
        assert len(await queue.take()) == 1
        queue.now += timedelta(seconds=SECONDS)
        assert await queue.take() == []
        queue.now += timedelta(hours=2)  # past the time by which that end was seen
        assert await queue.take() == []
        await queue.facts_reached()
        assert len(await queue.take()) == 1

    async def test_only_what_expired_waits(self, queue: Queue) -> None:
        expired = await queue.put()
        await queue.take()
        queue.now += timedelta(seconds=SECONDS)
        other = await queue.put()
        assert await queue.taken() == [other]
        await queue.facts_reached()
        assert await queue.taken() == [expired]


async def test_what_its_digest_does_not_fit_is_not_handed_out(queue: Queue) -> None:
    """Nor does it hold up what comes after it, however much of it there is."""
    good = await queue.put(started_at=at(-9))
    torn = await queue.put()
    other_input = await queue.put(input_digest="of other evidence")
    await write(queue.database, tables.detections, detection_row(event_id=UUID(torn)))
    assert await queue.taken(1) == [good]
    assert await queue.taken(1) == []
    assert {(await queue.row(id))["attempts"] for id in (torn, other_input)} == {0}
    async with queue.database.connection() as connection:
        await connection.execute("DELETE FROM detections")
    queue.now += timedelta(seconds=SECONDS)
    await queue.facts_reached()
    assert torn in await queue.taken()
