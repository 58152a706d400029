"""Recording EventAssessed, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED, EVENT_STATUS_FAILED, EVENT_STATUS_PENDING
from store_svc.domain.event import ASSESSED, FAILED, PENDING
from store_svc.domain.job import Request
from tests.support.facts import assessed, at, detected, failed, opened_by
from tests.support.recorded import Recorded, open_recorded, sequences
from tests.support.store_rows import due_rows, write_due

EVENT = opened_by(1)
FIRST, SECOND, THIRD, FOURTH = (str(UUID(int=n)) for n in (1, 2, 3, 4))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    """A store with one event, which is due by the fast path."""
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0, urgent=True))
        yield recorded


async def evidence(store: Recorded) -> tuple[int, str]:
    row = await store.event(EVENT)
    return row["evidence_revision"], row["evidence_digest"]


async def lease(store: Recorded) -> None:
    await store.rows("UPDATE jobs SET lease_id = $1, leased_until = now()", uuid4())


class TestAssessment:
    async def test_is_current_and_in_the_feed(self, store: Recorded) -> None:
        await lease(store)
        await store.assess(assessed(EVENT, FIRST, *await evidence(store), score=70, severity=3))
        row = await store.event(EVENT)
        assert (row["status"], str(row["assessment_id"]), row["severity"]) == (ASSESSED, FIRST, 3)
        assert await store.job(EVENT) is None
        assert row["assessed_digest"] == row["evidence_digest"]
        pending, change = await store.feed()
        assert (pending.event.status, change.event.status) == (EVENT_STATUS_PENDING, EVENT_STATUS_ASSESSED)
        assert (change.event.assessment.score, change.event.revision, change.sequence) == (70, 2, 2)
        ((entry,),) = await store.rows("SELECT severity FROM feed WHERE sequence = 2")
        assert entry == 3

    async def test_is_in_the_next_change_too(self, store: Recorded) -> None:
        await store.assess(assessed(EVENT, FIRST, *await evidence(store), score=70))
        await store.detect(detected(2, 10))
        change = (await store.feed())[-1]
        assert (change.event.assessment.score, change.event.status) == (70, EVENT_STATUS_ASSESSED)

    async def test_the_first_of_an_id_counts(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(assessed(EVENT, FIRST, *known, score=10))
        await store.assess(assessed(EVENT, FIRST, *known, score=90))
        ((score,),) = await store.rows("SELECT score FROM assessments")
        assert score == 10
        assert len(await store.feed()) == 2

    async def test_twice_in_one_batch_counts_once(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(assessed(EVENT, FIRST, *known, score=10), assessed(EVENT, FIRST, *known, score=90))
        assert (await store.feed())[-1].event.assessment.score == 10
        assert sequences(await store.feed()) == [1, 2]

    async def test_the_highest_evidence_revision_wins_in_any_order(self, store: Recorded) -> None:
        old = await evidence(store)
        await store.detect(detected(2, 10))
        new = await evidence(store)
        assert new[0] > old[0]
        await store.assess(assessed(EVENT, SECOND, *new, score=20))
        await store.assess(assessed(EVENT, FIRST, *old, score=90))
        row = await store.event(EVENT)
        assert (str(row["assessment_id"]), row["assessed_revision"]) == (SECOND, new[0])
        assert await store.counts("assessments") == [2]
        assert len(await store.feed()) == 3

    async def test_another_one_of_the_same_evidence_is_kept_but_not_current(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(
            assessed(EVENT, FIRST, *known), assessed(EVENT, SECOND, *known, score=99, severity=4)
        )
        assert str((await store.event(EVENT))["assessment_id"]) == FIRST
        assert await store.counts("assessments") == [2]

    async def test_of_older_evidence_ends_the_job_until_the_event_closes(self, store: Recorded) -> None:
        old = await evidence(store)
        await store.detect(detected(2, 10))
        await store.assess(assessed(EVENT, FIRST, *old))
        row = await store.event(EVENT)
        assert (row["status"], await store.job(EVENT)) == (ASSESSED, None)
        await store.sweep(after=30)
        row = await store.event(EVENT)
        assert (row["closed"], await store.due_at(EVENT)) == (True, store.now)

    async def test_of_older_evidence_keeps_the_job_of_a_closed_event(self, store: Recorded) -> None:
        old = await evidence(store)
        await store.detect(detected(2, 10))
        await store.sweep(after=30)
        await lease(store)
        await store.assess(assessed(EVENT, FIRST, *old))
        row = await store.event(EVENT)
        job = await store.job(EVENT)
        assert job is not None
        assert (row["closed"], job["lease_id"], job["leased_until"]) == (True, None, None)
        assert job["input_digest"] == row["evidence_digest"]

    async def test_of_an_unknown_event_is_kept(self, store: Recorded) -> None:
        await store.assess(assessed(opened_by(9), FIRST, 1, "digest"))
        assert await store.counts("assessments", "feed") == [1, 1]

    async def test_recorded_before_its_event_counts_when_it_is_published_again(self, store: Recorded) -> None:
        """A second assessment of the same evidence has the same id. Ignoring it would leave the event due."""
        _, digest = await evidence(store)
        await store.rows("TRUNCATE events, event_evidence, jobs")
        await store.assess(assessed(EVENT, FIRST, 7, digest, score=33))
        await store.rows("TRUNCATE media, detections")
        await store.detect(detected(1, 0, urgent=True))
        await store.assess(assessed(EVENT, FIRST, 1, digest, score=44))
        row = await store.event(EVENT)
        assert (row["status"], await store.job(EVENT)) == (ASSESSED, None)
        assert (await store.feed())[-1].event.assessment.score == 33

    async def test_of_a_deleted_event_is_dropped(self, store: Recorded) -> None:
        await store.rows("INSERT INTO tombstones VALUES ('event', $1, now())", EVENT)
        await store.assess(assessed(EVENT, FIRST, 1, "digest"))
        assert await store.counts("assessments") == [0]

    async def test_only_invalid_ones_become_dead_letters(self, store: Recorded) -> None:
        known = await evidence(store)
        empty = assessed(EVENT, SECOND, *known)
        empty.ClearField("assessment")
        out_of_range = assessed(EVENT, SECOND, *known, score=101)
        await store.assess(empty, assessed(EVENT, FIRST, *known), out_of_range)
        assert store.assessments.buried == [(0, "BAD_RECORD"), (2, "BAD_RECORD")]
        assert (await store.event(EVENT))["status"] == ASSESSED


class TestFailure:
    async def test_is_in_the_feed_and_retried_later(self, store: Recorded) -> None:
        await lease(store)
        await store.assess(failed(EVENT, FIRST, *await evidence(store)))
        row = await store.event(EVENT)
        job = await store.job(EVENT)
        assert job is not None
        assert (row["status"], job["attempts"], job["failed"], job["lease_id"]) == (FAILED, 1, True, None)
        assert job["due_at"] == store.now + timedelta(seconds=1)
        change = (await store.feed())[-1]
        assert (change.event.status, change.event.HasField("assessment")) == (EVENT_STATUS_FAILED, False)
        ((reason, detail, failed_at),) = await store.rows(
            "SELECT reason, detail, failed_at FROM assessment_failures"
        )
        assert (reason, detail, failed_at) == ("BAD_ANSWER", "no JSON", at(60))

    async def test_again_is_not_in_the_feed_and_only_the_last_one_is_kept(self, store: Recorded) -> None:
        known = await evidence(store)
        other = failed(opened_by(9), THIRD, 1, "digest")
        await store.assess(failed(EVENT, FIRST, *known), other)
        feed = await store.feed()
        await store.assess(failed(EVENT, SECOND, *known), failed(EVENT, FOURTH, *known))
        assert await attempts(store) == 3
        assert await store.feed() == feed
        rows = await store.rows("SELECT id FROM assessment_failures ORDER BY id")
        assert [str(row["id"]) for row in rows] == [THIRD, FOURTH]
        assert str((await store.event(EVENT))["failure_id"]) == FOURTH

    async def test_that_is_ignored_does_not_replace_another(self, store: Recorded) -> None:
        old = await evidence(store)
        await store.assess(assessed(EVENT, FIRST, *old))
        await store.detect(detected(2, 10))
        await store.sweep(after=30)
        await store.assess(failed(EVENT, SECOND, *await evidence(store)))
        await store.assess(failed(EVENT, THIRD, *old))
        rows = await store.rows("SELECT f.id FROM events e JOIN assessment_failures f ON f.id = e.failure_id")
        assert [str(row["id"]) for row in rows] == [SECOND]

    async def test_counts_once_for_each_id(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(failed(EVENT, FIRST, *known), failed(EVENT, FIRST, *known))
        await store.assess(failed(EVENT, FIRST, *known))
        assert await attempts(store) == 1
        await store.assess(failed(EVENT, SECOND, *known))
        assert await attempts(store) == 2
        assert await store.due_at(EVENT) == store.now + timedelta(seconds=2)

    async def test_is_ended_by_a_success(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(failed(EVENT, FIRST, *known), assessed(EVENT, SECOND, *known))
        row = await store.event(EVENT)
        assert (row["status"], await store.job(EVENT)) == (ASSESSED, None)
        assert sequences(await store.feed()) == [1, 2]

    async def test_after_a_success_is_ignored(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(assessed(EVENT, SECOND, *known), failed(EVENT, FIRST, *known))
        assert (await store.event(EVENT))["status"] == ASSESSED
        assert await store.counts("assessment_failures") == [1]

    async def test_of_an_unknown_event_is_kept(self, store: Recorded) -> None:
        await store.assess(failed(opened_by(9), FIRST, 1, "digest"))
        assert await store.counts("assessment_failures", "feed") == [1, 1]
        assert (await store.event(EVENT))["status"] == PENDING


class TestRecovery:
    """An assessment succeeds while other events wait for their next attempt."""

    async def put(self, store: Recorded, **changes: Any) -> str:
        pair = due_rows(**({"status": FAILED, "attempts": 9, "due_at": later(store)} | changes))
        (id,) = await write_due(store.database, pair)
        return id

    async def succeed(self, store: Recorded, event: str = EVENT, id: str = FIRST, **changes: Any) -> None:
        row = await store.event(event)
        await store.assess(assessed(event, id, row["evidence_revision"], row["evidence_digest"], **changes))

    async def test_makes_failed_jobs_due_and_wakes_the_workers(self, store: Recorded) -> None:
        failed = [await self.put(store) for _ in range(3)]
        upcoming = store.signals.due.upcoming()
        await self.succeed(store)
        assert upcoming.is_set()
        assert {await store.due_at(id) for id in failed} == {store.now}
        assert {await attempts(store, id) for id in failed} == {9}
        assert len(await store.feed()) == 2

    async def test_makes_each_job_due_once_until_its_event_is_assessed(self, store: Recorded) -> None:
        """Otherwise a job that always fails would be tried at every success."""
        always_fails = await self.put(store)
        await store.detect(detected(2, 500, urgent=True), detected(3, 1000, urgent=True))
        await self.succeed(store)
        row = await store.event(always_fails)
        await store.assess(failed(always_fails, FOURTH, row["evidence_revision"], row["evidence_digest"]))
        after = await store.due_at(always_fails)
        assert after == later(store)
        await self.succeed(store, opened_by(2), SECOND)
        assert await store.due_at(always_fails) == after
        await self.succeed(store, always_fails, THIRD)
        assert await store.job(always_fails) is None

    async def test_a_leased_job_is_made_due_by_the_next_success(self, store: Recorded) -> None:
        """Its attempt began earlier, so its failure would say nothing about the reasoner now."""
        held = {"due_at": store.now, "lease_id": uuid4(), "leased_until": later(store)}
        leased = await self.put(store, **held)
        await self.succeed(store)
        row = await store.job(leased)
        assert row is not None
        assert (row["due_at"], row["hastened"], row["lease_id"]) == (store.now, False, held["lease_id"])

    async def test_makes_a_limited_number_of_jobs_due(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("store_svc.job_queue.MAX_HASTENED", 2)
        old = await self.put(store, started_at=at(-9))
        new, urgent = await self.put(store), await self.put(store, started_at=at(-99), priority=1)
        await self.succeed(store)
        due = [await store.due_at(id) for id in (old, new, urgent)]
        assert due == [later(store), store.now, store.now]

    async def test_a_requested_assessment_makes_nothing_due(self, store: Recorded) -> None:
        """It may have been made by the rules, while the model still fails."""
        waits, request = await self.put(store), uuid4()
        await store.reassessments.request(UUID(EVENT), Request(request, "rules/v1"))
        await self.succeed(store, request=str(request))
        assert (await store.event(EVENT))["status"] == ASSESSED
        assert await store.due_at(waits) == later(store)

    async def test_a_job_that_has_not_failed_is_unchanged(self, store: Recorded) -> None:
        released = await self.put(store, status=PENDING)
        await self.succeed(store)
        assert await store.due_at(released) == later(store)


async def attempts(store: Recorded, event: str = EVENT) -> int:
    job = await store.job(event)
    assert job is not None
    return int(job["attempts"])


def later(store: Recorded) -> datetime:
    return store.now + timedelta(seconds=300)
