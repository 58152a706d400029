"""The mode and presence over time, on a real PostgreSQL, and what the house knew at the time of an event."""

from asyncio import gather
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lares.reason.v1.evidence_pb2 import RELATION_RESIDENT, RELATION_UNWELCOME
from lares.store.v1.house_pb2 import ExpectedVisit, ModeSchedule, Person, ScheduledMode, SiteNote, SiteNotes
from mesh.problems import Conflict, Exhausted, Invalid
from mesh.security import Caller
from store_svc.commit_signals import CommitSignals
from store_svc.database import Connection, Database, tables
from store_svc.domain.house import ARRIVAL_LASTS, HouseContext
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.contexts import HouseContexts
from store_svc.house.modes import Modes
from store_svc.house.notes import set_site_notes
from store_svc.house.people import MAX_PEOPLE, People
from store_svc.house.presence import MAX_REPORTS, PresenceReports
from store_svc.house.visits import MAX_VISITS, ExpectedVisits
from store_svc.times import moment
from tests.support.callers import calling_as
from tests.support.store_rows import NOON, camera_row, open_store_database, write

DELAY = timedelta(seconds=120)


@dataclass
class House:
    """The house of a store whose clock stands at `now`; NOON is a Monday."""

    database: Database
    now: datetime = NOON
    contexts: HouseContexts = field(default_factory=lambda: HouseContexts(DELAY))

    def __post_init__(self) -> None:
        def clock() -> datetime:
            return self.now

        span = timedelta(seconds=90)
        amendments = EvidenceAmendments(self.contexts, DELAY, span, CommitSignals(), clock)
        self.modes = Modes(self.database, "UTC", DELAY, amendments, clock)
        self.people = People(self.database, clock)
        self.presence = PresenceReports(self.database, amendments, clock)
        self.visits = ExpectedVisits(self.database, "Europe/Berlin", clock)

    async def schedule(self, *changes: tuple[int, str, str]) -> None:
        entries = [
            ScheduledMode(weekday=weekday, time=time, mode=mode)  # type: ignore[arg-type]
            for weekday, time, mode in changes
        ]
        await self.modes.set_schedule(ModeSchedule(changes=entries))

    async def houses(self, *moments: tuple[str, datetime]) -> list[HouseContext]:
        async def work(connection: Connection) -> list[HouseContext]:
            return await self.contexts.houses_at(connection, moments)

        return await self.database.transaction(work)

    async def mode(self, at: datetime) -> str:
        """What evidence of an event at this time says, and GetMode if no entry delay matters."""
        ((context),) = await self.houses(("front", at))
        return context.mode

    async def changes(self, size: int = 50) -> list[tuple[datetime, str, int]]:
        """All listed changes, newest first, read in pages of `size`."""
        listed: list[tuple[datetime, str, int]] = []
        token = ""
        while True:
            page = await self.modes.changes(size, token)
            listed += [(_at(change.at), change.mode, change.source) for change in page.changes]
            token = page.next_page_token
            if not token:
                return listed


def _at(stamp: Timestamp) -> datetime:
    return moment(stamp.ToMicroseconds())


def hours(number: float) -> datetime:
    return NOON + timedelta(hours=number)


def seconds(number: float) -> datetime:
    return NOON + timedelta(seconds=number)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_store_database(postgres_url) as database:
        await write(database, tables.cameras, camera_row("front"), camera_row("back"))
        yield database


@pytest.fixture
def house(database: Database) -> Iterator[House]:
    with calling_as(Caller.of_key("k1", "phone")):
        yield House(database)


async def test_a_home_about_which_nobody_has_told_anything(house: House) -> None:
    assert await house.houses() == []
    assert await house.houses(("front", NOON), ("back", NOON)) == [HouseContext(), HouseContext()]


async def test_the_mode_is_that_of_the_capture_time(house: House) -> None:
    for hour, mode in ((0, "away"), (2, "home"), (4, "")):
        house.now = hours(hour)
        await house.modes.set(mode, None)
    assert [await house.mode(hours(n)) for n in (-1, 0, 1, 2, 3, 4, 5)] == [
        "", "away", "away", "home", "home", "", "",
    ]  # fmt: skip


async def test_a_change_counts_for_events_that_began_within_the_entry_delay(house: House) -> None:
    """Whenever they are recorded, so that the same history gives the same evidence."""
    await house.modes.set("away", None)
    house.now = hours(1)
    await house.modes.set("home", None)
    assert await house.mode(hours(1) - DELAY) == "home"
    assert await house.mode(hours(1) - DELAY - timedelta.resolution) == "away"
    assert (await house.modes.get(hours(1) - DELAY)).mode == "away"


async def test_a_scheduled_change_counts_from_its_time_on(house: House) -> None:
    await house.modes.set("home", None)
    await house.schedule((1, "13:00", "away"))
    assert await house.mode(hours(1) - timedelta.resolution) == "home"
    assert await house.mode(hours(1)) == "away"
    # Also after it was stored, because another schedule replaced this one.
    house.now = hours(2)
    await house.schedule((1, "15:00", "night"))
    assert await house.mode(hours(1) - timedelta.resolution) == "home"
    assert [await house.mode(hours(n)) for n in (1, 2, 3)] == ["away", "away", "night"]


async def test_home_lapses_for_events_too(house: House) -> None:
    await house.modes.set("home", None)
    assert await house.mode(hours(16) - timedelta.resolution) == "home"
    assert await house.mode(hours(16)) == ""
    house.now = hours(17)
    mode = await house.modes.get(None)
    assert (mode.mode, mode.latest.mode, _at(mode.lapses_at)) == ("", "home", hours(16))
    await house.modes.set("home", None)
    assert await house.mode(hours(18)) == "home"


async def test_what_somebody_sets_holds_until_the_schedules_next_change(house: House) -> None:
    await house.schedule((1, "13:00", "away"), (1, "15:00", "home"))
    house.now = hours(2)
    await house.modes.set("night", None)
    assert [await house.mode(hours(n)) for n in (0.5, 1, 2, 2.9, 3)] == ["", "away", "night", "night", "home"]
    mode = await house.modes.get(None)
    assert (mode.next.mode, _at(mode.next.at)) == ("home", hours(3))


async def test_of_two_changes_at_once_the_second_holds(house: House) -> None:
    """Also for two clients, of which neither knows of the other."""
    await house.modes.set("away", None)
    await house.modes.set("night", None)
    assert ((await house.modes.get(None)).mode, await house.mode(NOON)) == ("night", "night")
    await gather(*(house.modes.set(mode, None) for mode in ("home", "away", "night")))
    listed = await house.changes()
    assert (await house.modes.get(None)).mode == await house.mode(NOON) == listed[0][1]
    assert sorted(mode for _, mode, _ in listed[:3]) == ["away", "home", "night"]


async def test_a_change_counts_from_at_most_the_entry_delay_before(house: House) -> None:
    for at in (NOON - DELAY - timedelta.resolution, NOON + timedelta.resolution):
        with pytest.raises(Invalid) as refused:
            await house.modes.set("home", at)
        assert refused.value.reason == "BAD_MODE_TIME"
    assert await house.changes() == []
    await house.modes.set("home", NOON - DELAY)
    assert await house.changes() == [(NOON - DELAY, "home", 1)]


async def test_a_change_that_came_late_does_not_undo_a_later_one(house: House) -> None:
    await house.modes.set("away", None)
    house.now = seconds(60)
    with pytest.raises(Conflict) as refused:
        await house.modes.set("home", seconds(-1))
    assert refused.value.reason == "MODE_CHANGED_LATER"
    await house.modes.set("home", seconds(1))
    assert [await house.mode(seconds(n)) for n in (-300, 1)] == ["", "home"]


async def test_what_a_clock_that_was_ahead_has_left_does_not_happen(house: House) -> None:
    house.now = hours(1000)
    await house.modes.set("away", None)
    await house.schedule((1, "13:00", "away"))
    house.now = NOON
    await house.modes.set("home", None)
    house.now = hours(1)
    await house.modes.set("home", None)
    assert await house.mode(hours(1010)) == ""
    assert (await house.modes.schedule()).schedule.changes[:] == []


async def test_a_schedule_that_a_clock_ahead_has_left_does_not_replace_a_later_one(house: House) -> None:
    house.now = hours(24)
    await house.schedule((3, "12:00", "away"))
    house.now = NOON
    await house.schedule((3, "12:00", "night"))
    house.now = hours(24 * 9)
    assert await house.mode(hours(24 * 2 + 1)) == "night"


async def test_changes_are_listed_also_those_by_schedules(house: House) -> None:
    await house.modes.set("home", None)
    await house.schedule((1, "13:00", "away"), (1, "15:00", "home"))
    house.now = hours(3.5)
    await house.schedule((1, "15:45", "night"), (2, "01:00", "home"))
    house.now = hours(3.6)
    await house.modes.set("away", None)
    house.now = hours(24 * 8)
    await house.schedule()
    house.now = hours(24 * 30)
    expected = [
        (hours(7 * 24 + 13), "home", 2),
        (hours(7 * 24 + 3.75), "night", 2),
        (hours(13), "home", 2),
        (hours(3.75), "night", 2),
        (hours(3.6), "away", 1),
        (hours(3), "home", 2),
        (hours(1), "away", 2),
        (NOON, "home", 1),
    ]
    for size in (1, 2, 3, 50):
        assert await house.changes(size) == expected
    # The mode at any time is the last listed change.
    for hour in (0.5, 1, 3.2, 3.55, 3.7, 3.8, 20, 170, 175, 185, 600):
        listed = next(change for change in expected if change[0] <= hours(hour))
        assert _at((await house.modes.get(hours(hour))).latest.at) == listed[0]


async def test_an_equal_schedule_changes_nothing(house: House, database: Database) -> None:
    await house.schedule((1, "13:00", "away"))
    house.now = hours(2)
    await house.schedule((1, "13:00", "away"))
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM mode_schedules") == 1
    assert await house.changes() == [(hours(1), "away", 2)]


async def test_who_has_just_arrived_is_present_for_evidence(house: House) -> None:
    """As of the capture time. A phone that reports again and again does not arrive again."""
    ann = (await house.people.create("Ann", RELATION_RESIDENT)).id
    for minutes, is_present in ((0, True), (30 * 60, True), (30 * 60 + 5, True), (31 * 60, False)):
        house.now = hours(minutes / 60)
        await house.presence.report(ann, is_present)

    async def present(at: datetime) -> Sequence[UUID]:
        (context,) = await house.houses(("front", at))
        return context.present_person_ids

    lasts = ARRIVAL_LASTS - timedelta.resolution
    moments = [
        NOON - DELAY - timedelta.resolution, NOON - DELAY, NOON + lasts, NOON + ARRIVAL_LASTS, hours(1),
        hours(30), hours(30.1), hours(30.2), hours(31) - DELAY, hours(32),
    ]  # fmt: skip
    assert [bool(await present(at)) for at in moments] == [
        False, True, True, False, False,
        True, True, False, False, False,
    ]  # fmt: skip
    await house.people.update(Person(id=ann, relation=RELATION_UNWELCOME), ["relation"])
    assert await present(NOON) == ()
    await house.people.delete(ann)
    assert await present(NOON) == ()


async def test_a_report_lapses_after_24_hours(house: House) -> None:
    """Whoever is reported again then has come again."""
    ann = (await house.people.create("Ann", RELATION_RESIDENT)).id
    await house.presence.report(ann, True)
    listed = []
    for house.now in (hours(24) - timedelta.resolution, hours(24)):
        listed.append([one.person_id for one in (await house.presence.reports(9, "")).present])
    assert listed == [[ann], []]
    await house.presence.report(ann, True)
    ((context),) = await house.houses(("front", hours(24)))
    assert context.present_person_ids == (UUID(ann),)
    await house.people.update(Person(id=ann, relation=RELATION_UNWELCOME), ["relation"])
    answer = await house.presence.reports(9, "")
    assert (len(answer.present), len(answer.reports)) == (0, 2)
    with pytest.raises(Conflict) as refused:
        await house.presence.report(ann, True)
    assert refused.value.reason == "PERSON_UNWELCOME"


async def test_a_key_that_reports_too_often_may_again_a_minute_after(house: House) -> None:
    ann = (await house.people.create("Ann", RELATION_RESIDENT)).id
    for n in range(MAX_REPORTS):
        house.now = seconds(n)
        await house.presence.report(ann, True)
    with pytest.raises(Exhausted) as refused:
        await house.presence.report(ann, True)
    with calling_as(Caller.of_key("k2", "another phone")):
        await house.presence.report(ann, True)
    assert refused.value.metadata == {"retry_after_seconds": f"{60 - MAX_REPORTS + 1:.3f}"}
    house.now = seconds(60)
    await house.presence.report(ann, True)
    with pytest.raises(Exhausted):
        await house.presence.report(ann, True)
    assert len((await house.presence.reports(200, "")).reports) == MAX_REPORTS + 2


async def test_what_evidence_says_of_the_house(house: House) -> None:
    ann = await house.people.create("Ann", RELATION_RESIDENT)
    everywhere = await house.visits.create(ExpectedVisit(name="Post", from_time="14:00", to_time="15:00"))
    await house.visits.create(ExpectedVisit(name="Milk", camera_ids=["back"], zone_ids=["path"]))
    notes = [SiteNote(text="A dog."), SiteNote(text="A tree.", camera_id="back")]
    await set_site_notes(house.database, SiteNotes(notes=notes))
    # At noon it is 14:00 in Berlin.
    front, back, later = await house.houses(("front", NOON), ("back", NOON), ("front", hours(1)))
    assert [[person.name for person in context.people] for context in (front, back)] == [["Ann"]] * 2
    assert [visit.id for visit in front.expected] == [everywhere.id]
    assert sorted(visit.name for visit in back.expected) == ["Milk", "Post"]
    assert later.expected == ()
    assert (front.site_notes, back.site_notes) == (("A dog.",), ("A dog.", "A tree."))
    await house.people.update(Person(id=ann.id, name="Bea"), ["name"])
    ((changed),) = await house.houses(("front", NOON))
    assert [person.name for person in changed.people] == ["Bea"]
    await set_site_notes(house.database, SiteNotes())
    await house.visits.delete(everywhere.id)
    await house.people.delete(ann.id)
    assert await house.houses(("front", NOON)) == [HouseContext()]


async def test_a_change_by_another_process_is_seen(house: House) -> None:
    other = House(house.database)
    await other.people.create("Ann", RELATION_RESIDENT)
    assert len((await house.houses(("front", NOON)))[0].people) == 1
    await other.people.create("Bob", RELATION_RESIDENT)
    assert len((await house.houses(("front", NOON)))[0].people) == 2


async def test_a_batch_is_one_statement(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.people.create("Ann", RELATION_RESIDENT)
    await house.houses(("front", NOON))

    async def work(connection: Connection) -> int:
        fetched: list[str] = []
        fetch = connection.fetch

        async def counted(sql: str, *arguments: Any) -> Any:
            fetched.append(sql)
            return await fetch(sql, *arguments)

        class Counting:
            fetch = staticmethod(counted)

        await house.contexts.houses_at(Counting(), [("front", hours(n)) for n in range(100)])  # type: ignore[arg-type]
        return len(fetched)

    assert await house.database.transaction(work) == 1


async def test_people_and_visits_are_bounded(house: House) -> None:
    for n in range(MAX_PEOPLE):
        await house.people.create(f"P{n}", RELATION_RESIDENT)
    with pytest.raises(Conflict) as refused:
        await house.people.create("one more", RELATION_RESIDENT)
    assert refused.value.reason == "TOO_MANY_PEOPLE"
    for n in range(MAX_VISITS):
        await house.visits.create(ExpectedVisit(name=f"V{n}"))
    with pytest.raises(Conflict) as refused:
        await house.visits.create(ExpectedVisit(name="one more"))
    assert refused.value.reason == "TOO_MANY_VISITS"
