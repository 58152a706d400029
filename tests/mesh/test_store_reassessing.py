"""Requests for another assessment of an event and their answers, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest
from mesh.problems import Exhausted, NotFound
from store_svc.domain.event import ASSESSED
from store_svc.domain.job import REQUEST_ATTEMPTS, REQUESTED, Request
from tests.support.facts import assessed, detected, failed, opened_by
from tests.support.recorded import Recorded, open_recorded

EVENT = opened_by(1)
FIRST, SECOND, THIRD = (str(UUID(int=n)) for n in (1, 2, 3))
REQUEST = Request(UUID(int=71), "another", "v2")
OTHER = Request(UUID(int=72))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    """A store with one event, which is closed and assessed, so that nothing is due."""
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0))
        await recorded.sweep(after=30)
        await recorded.assess(assessed(EVENT, FIRST, *await evidence(recorded)))
        yield recorded


async def evidence(store: Recorded) -> tuple[int, str]:
    row = await store.event(EVENT)
    return row["evidence_revision"], row["evidence_digest"]


async def send_request(store: Recorded, requested: Request = REQUEST) -> None:
    await store.reassessments.request(UUID(EVENT), requested)


async def answer(store: Recorded, id: str, request: Request, score: int = 40) -> None:
    await store.assess(assessed(EVENT, id, *await evidence(store), score=score, request=str(request.id)))


async def job_request(store: Recorded) -> tuple[object, ...] | None:
    """Returns the request, when it is due and its priority, or None if there is no job."""
    row = await store.job(EVENT)
    if row is None:
        return None
    asked = ReassessmentRequest.FromString(row["request"] or b"")
    assert asked.request_id == str(row["request_id"] or "")
    return row["request_id"], asked.model, asked.prompt, row["due_at"], row["priority"]


async def waiting_request(store: Recorded) -> object:
    """Returns the id of the request that waits."""
    row = await store.job(EVENT)
    return row and row["request_id"]


async def test_is_leased_answered_and_becomes_current(store: Recorded) -> None:
    await send_request(store)
    (lease,) = await store.take()
    assert lease.assess.request == ReassessmentRequest(
        request_id=str(REQUEST.id), model="another", prompt="v2"
    )
    await answer(store, SECOND, REQUEST, score=90)
    row = await store.event(EVENT)
    assert (row["status"], str(row["assessment_id"])) == (ASSESSED, SECOND)
    assert await job_request(store) is None
    assert (await store.feed())[-1].event.assessment.request_id == str(REQUEST.id)
    history = await store.rows("SELECT id, request_id FROM assessments ORDER BY number")
    assert [(str(id), request) for id, request in history] == [(FIRST, None), (SECOND, REQUEST.id)]


async def test_a_request_is_no_change_that_clients_see(store: Recorded) -> None:
    before, feed = await store.event(EVENT), await store.feed()
    upcoming = store.signals.due.upcoming()
    event = await store.reassessments.request(UUID(EVENT), REQUEST)
    assert upcoming.is_set()
    assert (event.status, event.revision, event.sequence) == (2, before["revision"], before["sequence"])
    assert event.assessment.id == FIRST
    assert await store.feed() == feed
    assert await job_request(store) == (REQUEST.id, "another", "v2", store.now, REQUESTED)


async def test_an_unknown_event_is_refused(store: Recorded) -> None:
    with pytest.raises(NotFound) as refused:
        await store.reassessments.request(uuid4(), REQUEST)
    assert refused.value.reason == "EVENT_NOT_FOUND"


async def test_an_ordinary_lease_has_no_request(store: Recorded) -> None:
    await store.detect(detected(2, 500))
    await store.sweep(after=30)
    (lease,) = await store.take()
    assert not lease.assess.HasField("request")


async def test_is_leased_before_urgent_jobs(store: Recorded) -> None:
    await store.detect(detected(2, 500, urgent=True))
    await send_request(store)
    assert [lease.subject_id for lease in await store.take()] == [EVENT, opened_by(2)]


class TestRepeatedRequest:
    async def test_has_no_effect_while_it_waits(self, store: Recorded) -> None:
        await send_request(store)
        await store.take()
        await send_request(store, Request(REQUEST.id, "a third"))
        assert await job_request(store) == (REQUEST.id, "another", "v2", store.now, REQUESTED)
        assert await store.take() == []

    async def test_has_no_effect_after_its_answer(self, store: Recorded) -> None:
        await send_request(store)
        await answer(store, SECOND, REQUEST)
        await send_request(store)
        assert await job_request(store) is None

    async def test_has_no_effect_after_it_was_given_up(self, store: Recorded) -> None:
        await send_request(store)
        await store.assess(failed(EVENT, THIRD, *await evidence(store), given_up=str(REQUEST.id)))
        await send_request(store)
        assert await job_request(store) is None

    async def test_of_another_event_is_a_new_one(self, store: Recorded) -> None:
        await send_request(store)
        await answer(store, SECOND, REQUEST)
        await store.detect(detected(2, 500))
        await store.reassessments.request(UUID(opened_by(2)), REQUEST)
        (lease,) = await store.take()
        assert (lease.subject_id, lease.assess.request.request_id) == (opened_by(2), str(REQUEST.id))

    async def test_a_newer_request_replaces_it_and_is_leased_at_once(self, store: Recorded) -> None:
        """Even while a worker holds the lease of the request before, whose answer is no longer waited for."""
        await send_request(store)
        await store.take()
        await send_request(store, OTHER)
        (lease,) = await store.take()
        assert lease.assess.request.request_id == str(OTHER.id)
        await answer(store, SECOND, REQUEST)
        assert await waiting_request(store) == OTHER.id
        await answer(store, THIRD, OTHER)
        assert str((await store.event(EVENT))["assessment_id"]) == THIRD
        assert await job_request(store) is None

    async def test_after_its_answer_does_not_replace_the_one_that_waits(self, store: Recorded) -> None:
        await send_request(store)
        await answer(store, SECOND, REQUEST)
        await send_request(store, OTHER)
        await send_request(store)
        assert await waiting_request(store) == OTHER.id

    async def test_of_many_concurrent_requests_one_is_left(self, store: Recorded) -> None:
        requests = [Request(UUID(int=80 + n % 4)) for n in range(12)]
        await asyncio.gather(*(send_request(store, each) for each in requests))
        (lease,) = await store.take()
        assert lease.assess.request.request_id in {str(each.id) for each in requests}


async def test_the_number_of_waiting_requests_is_limited(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store_svc.reassessments.MAX_WAITING", 1)
    await store.detect(detected(2, 500))
    await send_request(store)
    with pytest.raises(Exhausted) as refused:
        await store.reassessments.request(UUID(opened_by(2)), OTHER)
    assert refused.value.reason == "TOO_MANY_REASSESSMENTS"
    await send_request(store, OTHER)  # replaces the one before
    await answer(store, SECOND, OTHER)
    await store.reassessments.request(UUID(opened_by(2)), REQUEST)


class TestAnswer:
    async def test_published_twice_counts_once(self, store: Recorded) -> None:
        await send_request(store)
        known = await evidence(store)
        one = assessed(EVENT, SECOND, *known, score=70, request=str(REQUEST.id))
        other = assessed(EVENT, SECOND, *known, score=80, request=str(REQUEST.id))
        await store.assess(one, other)
        feed = await store.feed()
        await store.assess(other)
        assert await store.feed() == feed
        assert feed[-1].event.assessment.score == 70

    async def test_an_old_one_published_again_does_not_become_current(self, store: Recorded) -> None:
        await send_request(store)
        await answer(store, SECOND, REQUEST)
        await send_request(store, OTHER)
        await answer(store, SECOND, REQUEST)
        assert await waiting_request(store) == OTHER.id
        await answer(store, THIRD, OTHER)
        feed = await store.feed()
        await answer(store, SECOND, REQUEST)
        assert str((await store.event(EVENT))["assessment_id"]) == THIRD
        assert await store.feed() == feed

    async def test_of_older_evidence_does_not_replace_one_of_newer_evidence(self, store: Recorded) -> None:
        old = await evidence(store)
        await send_request(store)
        await store.detect(detected(2, 10))
        await store.sweep(after=30)
        await store.assess(assessed(EVENT, SECOND, *await evidence(store)))
        feed = await store.feed()
        await store.assess(assessed(EVENT, THIRD, *old, request=str(REQUEST.id)))
        assert str((await store.event(EVENT))["assessment_id"]) == SECOND
        assert await job_request(store) is None
        assert await store.counts("assessments") == [3]
        assert await store.feed() == feed

    async def test_without_a_waiting_request_does_not_become_current(self, store: Recorded) -> None:
        await answer(store, SECOND, REQUEST)
        assert str((await store.event(EVENT))["assessment_id"]) == FIRST
        assert await store.counts("assessments") == [2]

    async def test_with_an_invalid_request_id_is_a_dead_letter(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(assessed(EVENT, SECOND, *known, request="mine"))
        assert store.assessments.buried == [(1, "BAD_RECORD")]


async def test_stays_with_the_job_while_frames_join(store: Recorded) -> None:
    await send_request(store)
    (before,) = await store.take()
    await store.detect(detected(2, 10))
    store.now += timedelta(seconds=60)
    await store.sweep()  # lets the job be leased again
    (after,) = await store.take()
    assert after.assess.request == before.assess.request
    assert after.assess.evidence.digest != before.assess.evidence.digest
    assert len(after.assess.evidence.detections) == 2


async def test_a_failed_attempt_is_retried_and_is_not_in_the_feed(store: Recorded) -> None:
    await send_request(store)
    await store.take()
    feed = await store.feed()
    await store.assess(failed(EVENT, THIRD, *await evidence(store)))
    assert await store.take() == []
    assert await store.feed() == feed
    store.now += timedelta(seconds=1)
    (again,) = await store.take()
    assert (again.assess.request.request_id, again.attempt) == (str(REQUEST.id), 2)


async def test_has_no_priority_after_a_failure_and_is_given_up_in_the_end(store: Recorded) -> None:
    await send_request(store)
    feed = await store.feed()
    for attempt in range(REQUEST_ATTEMPTS):
        assert await waiting_request(store) == REQUEST.id
        await store.assess(failed(EVENT, str(UUID(int=30 + attempt)), *await evidence(store)))
        job = await store.job(EVENT)
        assert job is None or job["priority"] == 0
    assert await job_request(store) is None
    assert await store.feed() == feed
    await store.assess(failed(EVENT, THIRD, *await evidence(store)))
    rows = await store.rows("SELECT id, given_up_request_id FROM assessment_failures ORDER BY id")
    assert [(id.int, request) for id, request in rows] == [(3, None), (34, REQUEST.id)]
    await send_request(store)  # has no effect, as it has ended
    assert await job_request(store) is None


async def test_giving_up_leaves_the_event_unchanged(store: Recorded) -> None:
    before, feed = await store.event(EVENT), await store.feed()
    await send_request(store)
    await store.take()
    gone = failed(EVENT, THIRD, *await evidence(store), given_up=str(REQUEST.id))
    await store.assess(gone, gone)
    assert dict(await store.event(EVENT)) == dict(before) | {"failure_id": UUID(THIRD)}
    assert await store.feed() == feed
    assert await store.take() == []
    ((request,),) = await store.rows("SELECT given_up_request_id FROM assessment_failures")
    assert request == REQUEST.id
    await send_request(store, OTHER)
    await store.assess(gone)
    assert await waiting_request(store) == OTHER.id
    assert store.assessments.buried == []


async def test_a_request_does_not_end_a_lease(store: Recorded) -> None:
    """The job is leased for the request after the ordinary assessment."""
    await store.detect(detected(2, 10))
    await store.sweep(after=30)
    (lease,) = await store.take()
    await send_request(store)
    job = await store.job(EVENT)
    assert job is not None
    assert str(job["lease_id"]) == lease.lease_id
    assert await store.take() == []
    await store.assess(assessed(EVENT, SECOND, *await evidence(store)))
    (next_lease,) = await store.take()
    assert next_lease.assess.request.request_id == str(REQUEST.id)


async def test_a_request_waits_for_the_lock_of_the_camera(store: Recorded) -> None:
    async with store.database.connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM cameras FOR UPDATE")
            task = asyncio.ensure_future(send_request(store))
            async with asyncio.timeout(90):
                while not (task.done() or await _blocked(store)):
                    await asyncio.sleep(0.01)
            assert not task.done()
            assert await job_request(store) is None
        await task
    assert await waiting_request(store) == REQUEST.id


async def _blocked(store: Recorded) -> bool:
    """Returns whether a session of this database waits for a lock."""
    rows = await store.rows(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)
