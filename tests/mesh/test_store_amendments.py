"""What callers say of the house soon after an event has begun amends its evidence, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from lares.reason.v1.evidence_pb2 import RELATION_RESIDENT, Evidence
from lares.store.v1.event_pb2 import EVENT_STATUS_ASSESSED
from mesh.security import Caller
from store_svc.domain.job import URGENT
from store_svc.queries.evidence import EvidenceReader, get_evidence
from tests.support.callers import calling_as
from tests.support.facts import assessed, at, detected, opened_by
from tests.support.recorded import Recorded, open_recorded, sequences

ASSESSMENT = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def as_phone() -> Iterator[None]:
    with calling_as(Caller.of_key("k1", "phone")):
        yield


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def evidence(store: Recorded, n: int) -> Evidence:
    return await get_evidence(store.database, EvidenceReader(), opened_by(n))


async def modes(store: Recorded, *opened: int) -> list[str]:
    return [(await evidence(store, n)).mode for n in opened]


async def say(store: Recorded, mode: str, seconds: float) -> None:
    store.now = at(seconds)
    await store.modes.set(mode, None)


class TestMode:
    async def test_amends_events_begun_within_the_entry_delay(self, store: Recorded) -> None:
        await say(store, "away", -1000)
        await store.detect(*(detected(n, seconds) for n, seconds in enumerate((-21, -20, 100, 200))))
        await say(store, "home", 100.5)
        assert await modes(store, 0, 2, 3) == ["away", "home", "home"]

    async def test_the_delay_is_inclusive_and_counts_from_the_opening_frame(self, store: Recorded) -> None:
        await say(store, "away", -1000)
        await store.detect(detected(1, 0, camera="a"), detected(2, -1, camera="b"))
        await store.detect(detected(3, -20, camera="a"))  # late: the event began at 0 all the same
        await say(store, "home", 120)
        names = ["a", "b"]
        read = [
            await get_evidence(store.database, EvidenceReader(), opened_by(n, camera=name))
            for n, name in zip((1, 2), names, strict=True)
        ]
        assert [one.mode for one in read] == ["home", "away"]

    async def test_is_a_change_of_the_event_with_a_new_revision_of_its_evidence(
        self, store: Recorded
    ) -> None:
        await store.detect(detected(1, 0))
        before, row = await evidence(store, 1), await store.event(opened_by(1))
        await say(store, "home", 60)
        after, amended = await evidence(store, 1), await store.event(opened_by(1))
        assert (amended["revision"], amended["evidence_revision"]) == (2, 2)
        assert (before.mode, after.mode, before.digest != after.digest) == ("", "home", True)
        assert (after.people, after.past, after.detections) == (before.people, before.past, before.detections)
        assert sequences(await store.feed()) == [1, 2]
        assert await store.counts("jobs") == [0]
        await say(store, "home", 61)  # the same again changes nothing
        assert await store.event(opened_by(1)) == amended
        await store.detect(detected(2, 5))
        assert (await evidence(store, 1)).mode == "home"
        assert (await store.event(opened_by(1)))["closed"] == row["closed"]

    async def test_makes_an_event_due_that_was_assessed(self, store: Recorded) -> None:
        await store.detect(detected(1, 0, urgent=True), detected(2, 0, camera="back"))
        first = (await store.take())[0].assess.evidence
        await store.assess(assessed(opened_by(1), ASSESSMENT, first.revision, first.digest))
        await store.sweep(after=40)
        assert await store.job(opened_by(1)) is None
        await say(store, "away", 60)
        job, event = await store.job(opened_by(1)), await store.event(opened_by(1))
        assert job is not None
        assert (job["due_at"], job["priority"]) == (at(60), URGENT)
        assert job["input_digest"] == event["evidence_digest"]
        leased = {lease.subject_id: lease.assess.evidence for lease in await store.take()}
        assert {one.mode for one in leased.values()} == {"away"}
        assert len(leased) == 2
        shown = [change.event for change in await store.feed() if change.event.id == opened_by(1)][-1]
        assert (shown.status, shown.assessment.id) == (EVENT_STATUS_ASSESSED, ASSESSMENT)

    async def test_leaves_events_of_earlier_versions_alone(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        await store.rows("DELETE FROM event_evidence")
        before = await store.event(opened_by(1))
        await say(store, "home", 60)
        assert await store.event(opened_by(1)) == before

    async def test_set_for_an_earlier_time_counts_from_there(self, store: Recorded) -> None:
        await say(store, "away", -1000)
        await store.detect(detected(1, 0), detected(2, 35, camera="b"))
        store.now = at(200)
        await store.modes.set("home", at(120.5))
        first = await evidence(store, 1)
        second = await get_evidence(store.database, EvidenceReader(), opened_by(2, camera="b"))
        assert (first.mode, second.mode) == ("away", "home")

    async def test_no_event_that_is_recorded_meanwhile_misses_it(self, store: Recorded) -> None:
        """Each is amended, or was opened with the new mode."""
        await say(store, "away", -1000)
        for n in range(12):
            await asyncio.gather(
                store.detect(*(detected(n, n * 1000, camera=f"cam{c}") for c in range(4)), partition=n),
                say(store, f"mode{n}", n * 1000 + 60),
            )
            for camera in range(4):
                id = opened_by(n, camera=f"cam{camera}")
                found = await get_evidence(store.database, EvidenceReader(), id)
                assert found.mode == f"mode{n}"

    async def test_is_undone_with_its_transaction(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.detect(detected(1, 0))
        before = await evidence(store, 1)

        async def killed(*_: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr("store_svc.house.amendments.write_events", killed)
            with pytest.raises(asyncio.CancelledError):
                await say(store, "home", 60)
        assert await evidence(store, 1) == before
        assert (await store.modes.get(None)).mode == ""


class TestPresence:
    async def test_amends_events_begun_within_the_entry_delay(self, store: Recorded) -> None:
        ada = await store.people.create("Ada", RELATION_RESIDENT)
        await store.detect(detected(1, 0))
        store.now = at(100)
        await store.presence.report(ada.id, True)
        assert list((await evidence(store, 1)).present_person_ids) == [ada.id]
        store.now = at(110)
        await store.presence.report(ada.id, False)
        assert list((await evidence(store, 1)).present_person_ids) == []

    async def test_of_somebody_who_was_not_known_then_says_nothing(self, store: Recorded) -> None:
        await store.detect(detected(1, 0))
        store.now = at(60)
        ada = await store.people.create("Ada", RELATION_RESIDENT)
        before = await evidence(store, 1)
        await store.presence.report(ada.id, True)
        assert await evidence(store, 1) == before
