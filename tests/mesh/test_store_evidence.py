"""What is frozen when an event opens, and what follows from it when it is read, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from lares.reason.v1.evidence_pb2 import RELATION_RESIDENT, Evidence, PastEvent
from lares.scene.v1 import scene_pb2
from lares.store.v1.house_pb2 import Person, SiteNote, SiteNotes
from mesh.problems import Conflict, NotFound
from mesh.scene import tracks
from mesh.security import Caller
from store_svc.camera_repository import CameraRepository
from store_svc.domain import derived_evidence
from store_svc.house.notes import set_site_notes
from store_svc.queries import evidence as evidence_queries
from store_svc.queries.evidence import EvidenceReader, get_evidence
from tests.support.callers import calling_as
from tests.support.facts import at, detected, found, opened_by
from tests.support.recorded import Recorded, open_recorded
from tests.support.seen import polygon, seen

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
STREET = scene_pb2.Zone(id="street", kind=scene_pb2.ZONE_KIND_PUBLIC, polygon=polygon(LEFT))
DOOR = scene_pb2.Zone(id="door", kind=scene_pb2.ZONE_KIND_ENTRY, polygon=polygon(RIGHT))
# From above to below: who goes to the left goes inwards.
GATE = scene_pb2.Line(id="gate", start=scene_pb2.Point(x=0.5), end=scene_pb2.Point(x=0.5, y=1))


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


def cameras_of(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


async def draw(store: Recorded, **scene: Any) -> None:
    await cameras_of(store).create("front", "Front", "", True, {}, **scene)


async def evidence(store: Recorded, n: int, reader: EvidenceReader | None = None) -> Evidence:
    """Of the event that the nth photo has opened."""
    return await get_evidence(store.database, reader or EvidenceReader(), opened_by(n))


def visits(message: Evidence) -> list[list[tuple[str, int]]]:
    """Of each track, the zones that it was in and for how many seconds."""
    return [
        [(visit.zone_id, visit.end_time.seconds - visit.start_time.seconds) for visit in track.visits]
        for track in message.tracks
    ]


class TestTracks:
    async def test_have_ids_of_their_event_and_first_detection(self, store: Recorded) -> None:
        await draw(store, zones=[STREET, DOOR], lines=[GATE], ground=scene_pb2.GROUND_DRIVE)
        await store.detect(seen(1, 0, (0.7, 0.5), (0.2, 0.9)), seen(2, 2, (0.6, 0.5)), seen(3, 4, (0.4, 0.5)))
        message = await evidence(store, 1)
        walker = max(message.tracks, key=lambda track: len(track.detection_indexes))
        ids = [message.detections[index].id for index in walker.detection_indexes]
        assert ids == [found(1), found(2), found(3)]
        assert sorted(visits(message)) == [[("door", 2), ("street", 0)], [("street", 0)]]
        assert [(one.line_id, one.direction) for one in walker.crossings] == [("gate", 1)]
        assert message.derivation == tracks.VERSION
        assert message.light == scene_pb2.LIGHT_DAYLIGHT
        assert (list(message.zones), message.ground) == ([STREET, DOOR], scene_pb2.GROUND_DRIVE)
        first = walker.id
        await store.detect(seen(4, 6, (0.3, 0.5)))
        assert first in [track.id for track in (await evidence(store, 1)).tracks]

    async def test_are_leased_as_they_are_read(self, store: Recorded) -> None:
        await draw(store, zones=[STREET])
        await store.detect(seen(1, -100, (0.3, 0.5)), seen(2, 0, (0.2, 0.5)), seen(3, 2, (0.25, 0.5)))
        await store.sweep(after=200)
        leased = {lease.subject_id: lease.assess.evidence for lease in await store.take()}
        assert leased == {opened_by(n): await evidence(store, n) for n in (1, 2)}

    async def test_are_not_derived_when_frames_are_recorded(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("tracks were derived")

        with monkeypatch.context() as patch:
            patch.setattr(derived_evidence, "derive_tracks", refuse)
            for n in range(1, 6):
                await store.detect(seen(n, n * 20, (0.2, 0.5)))
            with pytest.raises(AssertionError):
                await evidence(store, 1)
        assert len((await evidence(store, 1)).tracks) == 1


class TestFrozen:
    async def test_an_event_is_measured_by_the_zones_of_its_opening(self, store: Recorded) -> None:
        await draw(store, zones=[STREET])
        await store.detect(seen(1, 0, (0.2, 0.5)))
        before = await evidence(store, 1)
        cameras = cameras_of(store)
        changed = scene_pb2.Zone(id="bed", kind=scene_pb2.ZONE_KIND_PRIVATE, polygon=polygon(LEFT))
        await cameras.update("front", {"zones": [changed], "display_name": "Back", "time_zone": "Asia/Tokyo"})
        assert await evidence(store, 1) == before
        await store.detect(seen(2, 5, (0.2, 0.5)), seen(3, 100, (0.2, 0.5)))
        grown = await evidence(store, 1)
        assert (visits(grown), grown.camera_name, grown.time_zone) == ([[("street", 5)]], "Front", "UTC")
        assert (list(grown.zones), grown.digest == before.digest) == ([STREET], False)
        later = await evidence(store, 3)
        assert (visits(later), later.camera_name, later.time_zone) == ([[("bed", 0)]], "Back", "Asia/Tokyo")
        # The event before is measured by the zones of the one that it came before.
        assert [(stay.zone_id, stay.seconds) for past in later.past for stay in past.stays] == [("bed", 5)]

    async def test_a_camera_that_is_deleted_leaves_its_evidence(self, store: Recorded) -> None:
        await draw(store, zones=[STREET])
        await store.detect(seen(1, 0, (0.2, 0.5)))
        before = await evidence(store, 1)
        await cameras_of(store).delete("front")
        assert await evidence(store, 1) == before

    async def test_a_late_frame_amends_the_evidence_but_not_what_is_frozen(self, store: Recorded) -> None:
        await draw(store, zones=[STREET])
        await store.detect(seen(1, 100, (0.2, 0.5)))
        before, frozen = await evidence(store, 1), await store.frozen(opened_by(1))
        await store.detect(seen(2, 98, (0.2, 0.5)), seen(3, 40, (0.2, 0.5)))
        after = await evidence(store, 1)
        assert await store.frozen(opened_by(1)) == frozen
        assert after.revision > before.revision
        assert (after.digest != before.digest, visits(after)) == (True, [[("street", 2)]])
        assert not after.past  # though an event has been opened since that began before it
        assert len((await evidence(store, 1)).detections) == 2

    async def test_a_zone_of_a_kind_that_only_a_later_version_knows_measures_nothing(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await draw(store, zones=[STREET])
        strange = Evidence(zones=[scene_pb2.Zone(id="roof", kind=99, polygon=STREET.polygon)])  # type: ignore[arg-type]
        monkeypatch.setattr(store.recorder._freezer, "_frozen_scene", lambda _: strange.SerializeToString())
        await store.detect(seen(1, 0, (0.2, 0.5)))
        assert visits(await evidence(store, 1)) == [[]]


class TestHouse:
    async def test_is_what_was_known_at_the_capture_time_of_the_opening_frame(self, store: Recorded) -> None:
        modes, people, presence = store.modes, store.people, store.presence
        with calling_as(Caller.of_key("k1", "phone")):
            ada = await people.create("Ada", RELATION_RESIDENT)
            await set_site_notes(store.database, SiteNotes(notes=[SiteNote(text="The gate is old.")]))
            await modes.set("away", None)
            store.now = at(1000)
            await modes.set("home", None)
            await presence.report(ada.id, True)
            await store.detect(seen(1, 0, (0.2, 0.5)), seen(2, 1001, (0.2, 0.5)), seen(3, 5, (0.2, 0.5)))
            before = [await evidence(store, n) for n in (1, 2)]
            store.now = at(2000)
            await modes.set("night", None)
            await people.update(Person(id=ada.id, name="Grace"), ["name"])
            await set_site_notes(store.database, SiteNotes())
        assert [await evidence(store, n) for n in (1, 2)] == before
        first, second = before
        assert [(one.mode, list(one.present_person_ids)) for one in before] == [
            ("away", []),
            ("home", [ada.id]),
        ]
        assert [person.name for person in (*first.people, *second.people)] == ["Ada", "Ada"]
        assert list(second.site_notes) == ["The gate is old."]


class TestPast:
    async def test_is_what_had_happened_when_the_event_opened(self, store: Recorded) -> None:
        await draw(store, zones=[STREET, DOOR], lines=[GATE])
        await store.detect(
            seen(1, 0, (0.7, 0.5)),
            seen(2, 4, (0.6, 0.5)),
            seen(3, 100, (0.2, 0.5), label="dog"),  # opens an event while the first one is not complete
            seen(4, 8, (0.4, 0.5)),
            seen(5, 200, (0.2, 0.5)),
        )
        (past,) = (await evidence(store, 3)).past
        assert (past.event_id, past.detection_count, list(past.labels)) == (opened_by(1), 2, ["person"])
        assert [(stay.zone_id, stay.label, stay.seconds) for stay in past.stays] == [("door", "person", 4)]
        assert past.inward_crossings == 0
        first, second = (await evidence(store, 5)).past
        assert (first.detection_count, first.inward_crossings, list(second.labels)) == (3, 1, ["dog"])
        assert [past.event_id for past in (await evidence(store, 5)).history] == [opened_by(1), opened_by(3)]

    async def test_does_not_change_when_an_earlier_event_grows(self, store: Recorded) -> None:
        await store.detect(seen(1, 0, (0.7, 0.5)), seen(2, 100, (0.7, 0.5)))
        before = await evidence(store, 2)
        await store.detect(seen(3, 5, (0.7, 0.5), (0.2, 0.5)), seen(4, 6, (0.1, 0.5), label="cat"))
        assert await evidence(store, 2) == before

    async def test_is_derived_once_for_each_event(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        derived: list[int] = []
        past_of = derived_evidence.past_of

        def counted(found: Sequence[Any], surroundings: Any) -> tuple[PastEvent, Any]:
            derived.append(len(found))
            return past_of(found, surroundings)

        monkeypatch.setattr(evidence_queries, "past_of", counted)
        await draw(store, ground=scene_pb2.GROUND_DRIVE)
        for n in range(12):
            await store.detect(seen(n, n * 100, (0.7, 0.5)))
        await store.sweep(after=60)
        leased = {lease.subject_id: lease.assess.evidence for lease in await store.take(20)}
        assert [len(leased[opened_by(n)].past) for n in range(12)] == list(range(12))
        assert len(derived) == 11
        # Another process, which remembers nothing, derives the same.
        assert [await evidence(store, n) for n in range(12)] == [leased[opened_by(n)] for n in range(12)]


class TestReading:
    async def test_needs_an_event(self, store: Recorded) -> None:
        with pytest.raises(NotFound) as error:
            await evidence(store, 1)
        assert error.value.reason == "EVENT_NOT_FOUND"

    @pytest.mark.parametrize("damage", ["body = body || '\\x1201'", "scene = '\\x00'"])
    async def test_what_does_not_have_the_events_digest_is_neither_read_nor_leased(
        self, store: Recorded, damage: str
    ) -> None:
        await store.detect(detected(1, 0))
        await store.sweep(after=60)
        await store.rows(f"UPDATE event_evidence SET {damage}")
        with pytest.raises(Conflict) as error:
            await evidence(store, 1)
        assert error.value.reason == "EVIDENCE_DIFFERS"
        assert await store.take() == []

    async def test_one_statement_reads_what_is_frozen_with_the_detections(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.detect(detected(1, 0))
        statements: list[str] = []
        fetch = asyncpg.Connection.fetch

        async def counted(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:
            statements.append(query)
            return await fetch(connection, query, *arguments, **options)

        monkeypatch.setattr(asyncpg.Connection, "fetch", counted)
        await evidence(store, 1)
        assert len(statements) == 1
