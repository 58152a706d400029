"""The raw answers of language models: stored in a table of their own, and in nothing that is listed."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import EventAssessed
from lares.store.v1 import event_service_pb2 as pb
from mesh.problems import NotFound
from store_svc.api.events import EventServicer
from tests.support.facts import assessed, detected, opened_by
from tests.support.recorded import Recorded, open_recorded

nothing = cast(Any, None)

EVENT = opened_by(1)
FIRST, SECOND = str(UUID(int=1)), str(UUID(int=2))
ANSWER = (
    "<think>" + "a man at the door\0" * 400 + "</think>"
)  # 7 KiB, with a character that PostgreSQL's text cannot hold
# A field that no contract of Lares ever had: number 999, 5 bytes.
UNKNOWN = b"\xba\x3e\x05alien"


class Store:
    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.servicer = EventServicer(recorded.database, nothing, nothing, nothing, nothing, nothing, nothing)

    async def fact(self, id: str = FIRST, raw_answer: str = "", of_before: str = "") -> EventAssessed:
        """`of_before` is a raw answer in the field in which earlier versions wrote it."""
        row = await self.recorded.event(EVENT)
        fact = assessed(EVENT, id, row["evidence_revision"], row["evidence_digest"])
        fact.raw_answer, fact.assessment.raw_answer = raw_answer, of_before
        return fact

    async def raw_answer(self, id: str = FIRST) -> str:
        request = pb.GetRawAnswerRequest(assessment_id=id)
        return (await self.servicer.GetRawAnswer(request, nothing)).raw_answer

    async def everywhere(self) -> list[Assessment]:
        """The assessment in everything that the store returns or publishes."""
        one = await self.servicer.GetEvent(pb.GetEventRequest(event_id=EVENT), nothing)
        page = await self.servicer.ListEvents(pb.ListEventsRequest(), nothing)
        changes = await self.servicer.ListChanges(pb.ListChangesRequest(), nothing)
        history = await self.servicer.ListAssessments(pb.ListAssessmentsRequest(event_id=EVENT), nothing)
        events = [one.event, *page.events, *(change.event for change in changes.changes)]
        return [event.assessment for event in events if event.HasField("assessment")] + list(
            history.assessments
        )


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    async with open_recorded(postgres_url) as recorded:
        await recorded.detect(detected(1, 0))
        yield Store(recorded)


@pytest.mark.parametrize("form", ["raw_answer", "of_before"])
async def test_a_raw_answer_is_only_in_its_own_rpc(store: Store, form: str) -> None:
    await store.recorded.assess(await store.fact(**{form: ANSWER}))
    assert await store.raw_answer() == ANSWER
    found = await store.everywhere()
    assert len(found) == 4
    for assessment in found:
        assert (assessment.id, assessment.raw_answer) == (FIRST, "")
        assert assessment.ByteSize() < 300


async def test_an_assessment_by_rules_has_none_and_an_unknown_one_is_not_found(store: Store) -> None:
    await store.recorded.assess(await store.fact())
    assert await store.raw_answer() == ""
    assert await store.recorded.counts("raw_answers") == [0]
    with pytest.raises(NotFound) as unknown:
        await store.raw_answer(str(uuid4()))
    assert unknown.value.reason == "ASSESSMENT_NOT_FOUND"


async def test_the_first_record_with_an_id_counts_with_its_raw_answer(store: Store) -> None:
    first, second = await store.fact(raw_answer="one"), await store.fact(raw_answer="two")
    await store.recorded.assess(first, second)
    await store.recorded.assess(second)
    assert await store.raw_answer() == "one"
    await store.recorded.assess(await store.fact(SECOND))
    await store.recorded.assess(await store.fact(SECOND, raw_answer="late"))
    assert await store.raw_answer(SECOND) == ""


async def test_unknown_fields_are_in_no_assessment(store: Store) -> None:
    fact = await store.fact()
    fact.assessment.MergeFromString(UNKNOWN)
    fact.assessment.factors.add(factor="class").MergeFromString(UNKNOWN)
    assert b"alien" in fact.SerializeToString()
    await store.recorded.assess(fact)
    found = await store.everywhere()
    assert len(found) == 4
    assert not [assessment for assessment in found if b"alien" in assessment.SerializeToString()]


async def test_reading_a_record_twice_returns_the_same(store: Store) -> None:
    """A batch that fails is read again, one record at a time."""
    fact = await store.fact(of_before=ANSWER)
    before = fact.SerializeToString()
    await store.recorded.assess(fact)
    assert fact.SerializeToString() == before
