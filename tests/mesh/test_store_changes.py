"""Vehicles that come and leave, and what is usual, in the evidence of events, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from lares.reason.v1.evidence_pb2 import CHANGE_KIND_CAME, CHANGE_KIND_WENT, Evidence
from lares.scene.v1 import scene_pb2
from lares.scene.v1.scene_pb2 import Point, Zone
from lares.store.v1.events_pb2 import EventChanged
from mesh.identity import departure_event_id
from store_svc.camera_repository import CameraRepository
from store_svc.ids import parse_uuid
from store_svc.queries.evidence import EvidenceReader, get_evidence
from store_svc.track_identities import TrackIdentities
from tests.support.facts import at, opened_by, photo, reported
from tests.support.parts import MIGRATED, fresh_database
from tests.support.recorded import Recorded, open_recorded

MINUTE, DAY = 60.0, 86_400.0
CAR, PERSON = ("car", 0.75), ("person", 0.75)
LEFT_HALF = [Point(x=x, y=y) for x, y in ((0, 0), (0.5, 0), (0.5, 1), (0, 1))]
DRIVE = Zone(id="drive", kind=scene_pb2.ZONE_KIND_PRIVATE, polygon=LEFT_HALF)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


async def draw_drive(store: Recorded) -> CameraRepository:
    cameras = CameraRepository(store.database, store.signals, lambda: store.now)
    await cameras.create("front", "Front", "Europe/Berlin", True, {}, zones=[DRIVE])
    return cameras


async def park(store: Recorded) -> None:
    for n, minute in ((1, 0), (2, 5), (3, 10)):
        await store.detect(reported(n, minute * MINUTE, CAR))


async def evidence(store: Recorded, event: str) -> Evidence:
    return await get_evidence(store.database, EvidenceReader(), event)


def left_by(n: int) -> str:
    return departure_event_id(photo(n), 0)


class TestLeaving:
    async def test_opens_an_event_of_its_own(self, store: Recorded) -> None:
        await draw_drive(store)
        await park(store)
        await store.detect(reported(4, 20 * MINUTE), reported(5, 20 * MINUTE + 5))
        assert await store.counts("events") == [3]
        message = reported(6, 20 * MINUTE + 10, PERSON)
        message.frames[0].detections[0].bounding_box.x_min = 0.45  # it hides nothing of the place
        await store.detect(message)
        event = await store.event(left_by(6))
        assert (event["started_at"], event["ended_at"]) == (at(20 * MINUTE), at(20 * MINUTE + 10))
        assert (event["labels"], event["zones"], event["time_zone"]) == (["car"], ["drive"], "Europe/Berlin")
        assert (event["detection_count"], event["media_count"], event["closed"]) == (0, 0, False)
        told = await evidence(store, left_by(6))
        (change,) = told.changes
        assert (change.thing, change.kind, change.zone_id) == ("car", CHANGE_KIND_WENT, "drive")
        assert change.zone_kind == scene_pb2.ZONE_KIND_PRIVATE
        assert change.time.ToDatetime(event["started_at"].tzinfo) == at(20 * MINUTE)
        assert told.light == scene_pb2.LIGHT_DAYLIGHT
        assert [past.event_id for past in told.past] == [opened_by(1), opened_by(2), opened_by(3)]
        # The person has an event, too, which is another.
        assert (await store.event(opened_by(6)))["labels"] == ["person"]
        feed = [EventChanged.FromString(row["body"]) for row in await store.rows("SELECT body FROM feed")]
        assert left_by(6) in [change.event.id for change in feed]

    async def test_nothing_joins_it_and_it_is_no_past(self, store: Recorded) -> None:
        await park(store)
        await store.detect(*(reported(4 + n, 20 * MINUTE + 5 * n) for n in range(3)))
        await store.detect(reported(9, 20 * MINUTE + 12, PERSON))
        assert (await store.event(left_by(6)))["revision"] == 1
        assert left_by(6) not in [past.event_id for past in (await evidence(store, opened_by(9))).past]

    async def test_is_assessed_like_any_other(self, store: Recorded) -> None:
        await park(store)
        await store.detect(*(reported(4 + n, 20 * MINUTE + 5 * n) for n in range(3)))
        await store.sweep(after=31)
        leases = {lease.subject_id: lease for lease in await store.take()}
        given = leases[left_by(6)].assess.evidence
        assert not given.detections
        assert [change.thing for change in given.changes] == ["car"]


class TestComing:
    async def test_is_a_change_of_the_event_in_which_it_came(self, store: Recorded) -> None:
        await store.detect(reported(1, 0, CAR))
        await store.sweep(after=31)
        assert await store.job(opened_by(1)) is not None
        assert not (await evidence(store, opened_by(1))).changes
        before = await store.event(opened_by(1))
        await store.detect(reported(2, 5 * MINUTE, CAR), reported(3, 10 * MINUTE, CAR))
        (change,) = (await evidence(store, opened_by(1))).changes
        assert (change.thing, change.kind, change.time.seconds) == ("car", CHANGE_KIND_CAME, _seconds(0))
        event, job = await store.event(opened_by(1)), await store.job(opened_by(1))
        assert event["evidence_revision"] > before["evidence_revision"]
        assert event["closed"]
        assert job is not None
        assert job["input_digest"] == event["evidence_digest"] != before["evidence_digest"]

    async def test_keeps_what_somebody_has_said_of_tracks(self, store: Recorded) -> None:
        await store.detect(reported(1, 0, CAR, PERSON))
        (person,) = [
            track for track in (await evidence(store, opened_by(1))).tracks if track.label == "person"
        ]
        identities = TrackIdentities(store.database, EvidenceReader(), store.signals, lambda: store.now)
        await identities.identify(parse_uuid(opened_by(1)), person.id, "")
        named = await evidence(store, opened_by(1))
        await store.detect(reported(2, 5 * MINUTE, CAR), reported(3, 10 * MINUTE, CAR))
        after = await evidence(store, opened_by(1))
        assert [change.kind for change in after.changes] == [CHANGE_KIND_CAME]
        assert (after.tracks, len(named.tracks)) == (named.tracks, 2)

    async def test_is_known_once(self, store: Recorded) -> None:
        await park(store)
        revision = (await store.event(opened_by(1)))["revision"]
        await store.detect(*(reported(n, n * 5 * MINUTE, CAR) for n in range(4, 9)))
        assert (await store.event(opened_by(1)))["revision"] == revision


def _seconds(second: float) -> int:
    return round(at(second).timestamp())


async def test_what_stood_there_in_the_hour_before_is_told(store: Recorded) -> None:
    await park(store)
    await store.detect(reported(4, 20 * MINUTE, CAR, PERSON), reported(5, 40 * MINUTE, CAR, PERSON))
    message = await evidence(store, opened_by(5))
    assert [track.stationary for track in message.tracks if track.label == "car"] == [True]
    assert message.detections[0].stands or message.detections[1].stands
    matches = {past.event_id: past.stationary_matches for past in message.past}
    assert matches == {opened_by(1): 0, opened_by(2): 0, opened_by(3): 0, opened_by(4): 1}


def passes(n: int, day: float, seconds: float = 0) -> MediaDetected:
    """The nth photo, at noon of that day, shows a person in the drive."""
    return reported(n, day * DAY + seconds, PERSON)


async def habits(store: Recorded, event: str) -> list[tuple[str, str, int, int, int]]:
    return [
        (habit.label, habit.zone_id, habit.behaviour, habit.days_seen, habit.days)
        for habit in (await evidence(store, event)).habits
    ]


class TestHabits:
    async def test_are_frozen_when_an_event_opens(self, store: Recorded) -> None:
        cameras = await draw_drive(store)
        days = [0, 3, 6, 9, 12, 15, 18, 21]
        for n, day in enumerate(days, 1):
            await store.detect(passes(n, day), passes(100 + n, day, 10))
        await store.detect(passes(50, 22))
        assert await habits(store, opened_by(50)) == [("person", "drive", 1, 8, 28)]
        assert await habits(store, opened_by(8)) == []
        wider = Zone(
            id="drive", kind=scene_pb2.ZONE_KIND_PRIVATE, polygon=[*LEFT_HALF[:3], Point(x=0.1, y=1)]
        )
        await cameras.update("front", {"zones": [wider]})
        await store.detect(passes(51, 23))
        assert await habits(store, opened_by(51)) == []
        assert await habits(store, opened_by(50)) == [("person", "drive", 1, 8, 28)]
        await cameras.update("front", {"zones": [DRIVE]})
        await store.detect(passes(52, 24))
        assert await habits(store, opened_by(52)) == [("person", "drive", 1, 9, 28)]
        await store.detect(passes(53, 60))
        assert (await store.rows("SELECT count(*) FROM habits"))[0][0] == 1

    async def test_cameras_without_zones_count_nothing(self, store: Recorded) -> None:
        await store.detect(passes(1, 0), passes(2, 1))
        assert await store.counts("habits") == [0]


async def test_batches_change_nothing(postgres_server: str) -> None:
    """Live, as a backlog and in batches: the same evidence, habits and memory."""
    log: list[MediaDetected] = []
    for day in range(0, 27, 2):
        n = day * 20
        log += [passes(n + k, day, k * 7 if k < 4 else k * MINUTE) for k in range(6)]
        log += [reported(n + 6 + k, day * DAY + (30 + k * 4) * MINUTE, CAR) for k in range(5)]
        log += [reported(n + 11 + k, day * DAY + 60 * MINUTE + k * 6) for k in range(4)]
    queries = (
        "SELECT id, started_at, ended_at, labels, zones, stays, evidence_digest FROM events ORDER BY id",
        "SELECT * FROM event_evidence ORDER BY event_id",
        "SELECT * FROM habits ORDER BY day, half_hour, label, zone_id, behaviour",
        "SELECT * FROM vehicles ORDER BY id",
        "SELECT id, event_id, number, stands FROM detections ORDER BY id",
    )
    results = []
    for sizes in ([1], [len(log)], [9, 1, 30, 4]):
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(fresh_database(postgres_server, MIGRATED))
            store = await stack.enter_async_context(open_recorded(url))
            await draw_drive(store)
            await _record(store, log, sizes)
            results.append([[tuple(row) for row in await store.rows(query)] for query in queries])
    for one, other in ((0, 1), (0, 2)):
        for query, rows, expected in zip(queries, results[one], results[other], strict=True):
            assert rows == expected, query
    bodies = [Evidence.FromString(row[2]) for row in results[0][1]]
    kinds = {change.kind for body in bodies for change in body.changes}
    assert kinds == {CHANGE_KIND_CAME, CHANGE_KIND_WENT}
    assert any(body.habits for body in bodies)


async def _record(store: Recorded, log: Sequence[MediaDetected], sizes: Sequence[int]) -> None:
    first, turn = 0, 0
    while first < len(log):
        size = sizes[turn % len(sizes)]
        await store.detect(*log[first : first + size])
        first, turn = first + size, turn + 1
