"""Another judgement of an event, asked for and answered, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from lares.store.internal.v1.job_service_pb2 import JobLease, ReassessmentRequest
from mesh.problems import Exhausted, NotFound
from store_svc.domain.event import ASSESSED
from store_svc.domain.job import REQUEST_ATTEMPTS, REQUESTED, Request
from tests.support.facts import assessed, detected, failed, opened_by
from tests.support.recorded import Recorded, open_recorded

EVENT = opened_by(1)
FIRST, SECOND, THIRD = (str(UUID(int=n)) for n in (1, 2, 3))
WISH = Request(UUID(int=71), "another", "v2")
OTHER = Request(UUID(int=72))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    """With one event, closed and judged: two changes of three are in the feed, and nothing is due."""
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0))
        await recorded.sweep(after=30)
        await recorded.assess(assessed(EVENT, FIRST, *await evidence(recorded)))
        yield recorded


async def evidence(store: Recorded) -> tuple[int, str]:
    row = await store.event(EVENT)
    return row["evidence_revision"], row["evidence_digest"]


async def ask(store: Recorded, request: Request = WISH) -> None:
    await store.reassessments.request(UUID(EVENT), request)


async def answer(store: Recorded, id: str, request: Request, score: int = 40) -> None:
    await store.assess(assessed(EVENT, id, *await evidence(store), score=score, request=str(request.id)))


async def take(store: Recorded) -> list[JobLease]:
    return await store.take()


async def waiting(store: Recorded) -> tuple[object, ...] | None:
    """What is asked for, when it is due and its priority; None where nothing is to be done."""
    row = await store.job(EVENT)
    if row is None:
        return None
    asked = ReassessmentRequest.FromString(row["request"] or b"")
    assert asked.request_id == str(row["request_id"] or "")
    return row["request_id"], asked.model, asked.prompt, row["due_at"], row["priority"]


async def wanted(store: Recorded) -> object:
    """The request that waits."""
    row = await store.job(EVENT)
    return row and row["request_id"]


async def test_is_leased_answered_and_becomes_current(store: Recorded) -> None:
    await ask(store)
    (lease,) = await take(store)
    assert lease.assess.request == ReassessmentRequest(request_id=str(WISH.id), model="another", prompt="v2")
    await answer(store, SECOND, WISH, score=90)
    row = await store.event(EVENT)
    assert (row["status"], str(row["assessment_id"])) == (ASSESSED, SECOND)
    assert await waiting(store) is None
    assert (await store.feed())[-1].event.assessment.request_id == str(WISH.id)
    history = await store.rows("SELECT id, request_id FROM assessments ORDER BY number")
    assert [(str(id), request) for id, request in history] == [(FIRST, None), (SECOND, WISH.id)]


async def test_asking_is_no_change_that_people_see(store: Recorded) -> None:
    before, feed = await store.event(EVENT), await store.feed()
    upcoming = store.signals.due.upcoming()
    event = await store.reassessments.request(UUID(EVENT), WISH)
    assert upcoming.is_set()
    assert (event.status, event.revision, event.sequence) == (2, before["revision"], before["sequence"])
    assert event.assessment.id == FIRST
    assert await store.feed() == feed
    assert await waiting(store) == (WISH.id, "another", "v2", store.now, REQUESTED)


async def test_nobody_asks_of_what_is_not_there(store: Recorded) -> None:
    with pytest.raises(NotFound) as refused:
        await store.reassessments.request(uuid4(), WISH)
    assert refused.value.reason == "EVENT_NOT_FOUND"


async def test_an_ordinary_lease_has_no_request(store: Recorded) -> None:
    await store.detect(detected(2, 500))
    await store.sweep(after=30)
    (lease,) = await take(store)
    assert not lease.assess.HasField("request")


async def test_goes_before_what_is_urgent(store: Recorded) -> None:
    await store.detect(detected(2, 500, urgent=True))
    await ask(store)
    assert [lease.subject_id for lease in await take(store)] == [EVENT, opened_by(2)]


class TestTwice:
    async def test_is_one_while_it_waits(self, store: Recorded) -> None:
        await ask(store)
        await take(store)
        await ask(store, Request(WISH.id, "a third"))
        assert await waiting(store) == (WISH.id, "another", "v2", store.now, REQUESTED)
        assert await take(store) == []

    async def test_is_one_when_it_was_answered(self, store: Recorded) -> None:
        await ask(store)
        await answer(store, SECOND, WISH)
        await ask(store)
        assert await waiting(store) is None

    async def test_is_one_when_it_was_given_up(self, store: Recorded) -> None:
        await ask(store)
        await store.assess(failed(EVENT, THIRD, *await evidence(store), given_up=str(WISH.id)))
        await ask(store)
        assert await waiting(store) is None

    async def test_of_another_event_is_another(self, store: Recorded) -> None:
        await ask(store)
        await answer(store, SECOND, WISH)
        await store.detect(detected(2, 500))
        await store.reassessments.request(UUID(opened_by(2)), WISH)
        (lease,) = await take(store)
        assert (lease.subject_id, lease.assess.request.request_id) == (opened_by(2), str(WISH.id))

    async def test_another_one_replaces_it_and_is_leased_at_once(self, store: Recorded) -> None:
        """Though a judge has the one before in hand: it may go on, but nobody waits for it any more."""
        await ask(store)
        await take(store)
        await ask(store, OTHER)
        (lease,) = await take(store)
        assert lease.assess.request.request_id == str(OTHER.id)
        await answer(store, SECOND, WISH)
        assert await wanted(store) == OTHER.id
        await answer(store, THIRD, OTHER)
        assert str((await store.event(EVENT))["assessment_id"]) == THIRD
        assert await waiting(store) is None

    async def test_an_answered_one_again_is_no_matter_to_the_one_that_waits(self, store: Recorded) -> None:
        await ask(store)
        await answer(store, SECOND, WISH)
        await ask(store, OTHER)
        await ask(store)
        assert await wanted(store) == OTHER.id

    async def test_of_many_who_ask_at_once_one_is_last(self, store: Recorded) -> None:
        requests = [Request(UUID(int=80 + n % 4)) for n in range(12)]
        await asyncio.gather(*(ask(store, each) for each in requests))
        (lease,) = await take(store)
        assert lease.assess.request.request_id in {str(each.id) for each in requests}


async def test_no_more_may_wait_than_can_be_judged(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store_svc.reassessments.MAX_WAITING", 1)
    await store.detect(detected(2, 500))
    await ask(store)
    with pytest.raises(Exhausted) as refused:
        await store.reassessments.request(UUID(opened_by(2)), OTHER)
    assert refused.value.reason == "TOO_MANY_REASSESSMENTS"
    await ask(store, OTHER)  # in place of the one before
    await answer(store, SECOND, OTHER)
    await store.reassessments.request(UUID(opened_by(2)), WISH)


class TestAnswer:
    async def test_told_twice_is_one(self, store: Recorded) -> None:
        await ask(store)
        known = await evidence(store)
        one = assessed(EVENT, SECOND, *known, score=70, request=str(WISH.id))
        other = assessed(EVENT, SECOND, *known, score=80, request=str(WISH.id))
        await store.assess(one, other)
        feed = await store.feed()
        await store.assess(other)
        assert await store.feed() == feed
        assert feed[-1].event.assessment.score == 70

    async def test_an_old_one_told_again_does_not_come_back(self, store: Recorded) -> None:
        await ask(store)
        await answer(store, SECOND, WISH)
        await ask(store, OTHER)
        await answer(store, SECOND, WISH)
        assert await wanted(store) == OTHER.id
        await answer(store, THIRD, OTHER)
        feed = await store.feed()
        await answer(store, SECOND, WISH)
        assert str((await store.event(EVENT))["assessment_id"]) == THIRD
        assert await store.feed() == feed

    async def test_of_outgrown_evidence_after_newer_is_history_only(self, store: Recorded) -> None:
        old = await evidence(store)
        await ask(store)
        await store.detect(detected(2, 10))
        await store.sweep(after=30)
        await store.assess(assessed(EVENT, SECOND, *await evidence(store)))
        feed = await store.feed()
        await store.assess(assessed(EVENT, THIRD, *old, request=str(WISH.id)))
        assert str((await store.event(EVENT))["assessment_id"]) == SECOND
        assert await waiting(store) is None
        assert await store.counts("assessments") == [3]
        assert await store.feed() == feed

    async def test_to_nobody_is_history_only(self, store: Recorded) -> None:
        await answer(store, SECOND, WISH)
        assert str((await store.event(EVENT))["assessment_id"]) == FIRST
        assert await store.counts("assessments") == [2]

    async def test_with_a_request_that_is_no_uuid_is_buried(self, store: Recorded) -> None:
        known = await evidence(store)
        await store.assess(assessed(EVENT, SECOND, *known, request="mine"))
        assert store.assessments.buried == [(1, "BAD_RECORD")]


async def test_rides_on_the_next_lease_whatever_joined_meanwhile(store: Recorded) -> None:
    await ask(store)
    (before,) = await take(store)
    await store.detect(detected(2, 10))
    store.now += timedelta(seconds=60)
    await store.sweep()  # lets the expired lease be granted anew
    (after,) = await take(store)
    assert after.assess.request == before.assess.request
    assert after.assess.evidence.digest != before.assess.evidence.digest
    assert len(after.assess.evidence.detections) == 2


async def test_a_failed_attempt_is_tried_again_and_nobody_sees_it(store: Recorded) -> None:
    await ask(store)
    await take(store)
    feed = await store.feed()
    await store.assess(failed(EVENT, THIRD, *await evidence(store)))
    assert await take(store) == []
    assert await store.feed() == feed
    store.now += timedelta(seconds=1)
    (again,) = await take(store)
    assert (again.assess.request.request_id, again.attempt) == (str(WISH.id), 2)


async def test_what_failed_once_goes_before_nobody_and_ends(store: Recorded) -> None:
    await ask(store)
    feed = await store.feed()
    for attempt in range(REQUEST_ATTEMPTS):
        assert await wanted(store) == WISH.id
        await store.assess(failed(EVENT, str(UUID(int=30 + attempt)), *await evidence(store)))
        job = await store.job(EVENT)
        assert job is None or job["priority"] == 0
    assert await waiting(store) is None
    assert await store.feed() == feed
    await store.assess(failed(EVENT, THIRD, *await evidence(store)))
    rows = await store.rows("SELECT id, given_up_request_id FROM assessment_failures ORDER BY id")
    assert [(id.int, request) for id, request in rows] == [(3, None), (34, WISH.id)]
    await ask(store)  # the same once more: it has ended
    assert await waiting(store) is None


async def test_given_up_leaves_the_event_as_it_was(store: Recorded) -> None:
    before, feed = await store.event(EVENT), await store.feed()
    await ask(store)
    await take(store)
    gone = failed(EVENT, THIRD, *await evidence(store), given_up=str(WISH.id))
    await store.assess(gone, gone)
    assert dict(await store.event(EVENT)) == dict(before) | {"failure_id": UUID(THIRD)}
    assert await store.feed() == feed
    assert await take(store) == []
    ((request,),) = await store.rows("SELECT given_up_request_id FROM assessment_failures")
    assert request == WISH.id
    await ask(store, OTHER)
    await store.assess(gone)
    assert await wanted(store) == OTHER.id
    assert store.assessments.buried == []


async def test_asking_leaves_a_lease_alone(store: Recorded) -> None:
    """Its judge goes on; the request comes after it."""
    await store.detect(detected(2, 10))
    await store.sweep(after=30)
    (lease,) = await take(store)
    await ask(store)
    job = await store.job(EVENT)
    assert job is not None
    assert str(job["lease_id"]) == lease.lease_id
    assert await take(store) == []
    await store.assess(assessed(EVENT, SECOND, *await evidence(store)))
    (mine,) = await take(store)
    assert mine.assess.request.request_id == str(WISH.id)


async def test_asking_waits_for_the_camera(store: Recorded) -> None:
    async with store.database.connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM cameras FOR UPDATE")
            task = asyncio.ensure_future(ask(store))
            async with asyncio.timeout(90):
                while not (task.done() or await _blocked(store)):
                    await asyncio.sleep(0.01)
            assert not task.done()
            assert await waiting(store) is None
        await task
    assert await wanted(store) == WISH.id


async def _blocked(store: Recorded) -> bool:
    """Whether a session of this database waits for a lock."""
    rows = await store.rows(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)
