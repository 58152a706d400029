"""Evidence of a house that is as large as it can be, and of what is deleted, changed or said meanwhile, on a
real PostgreSQL."""

from asyncio import gather
from collections.abc import AsyncIterator, Iterator
from math import cos, pi, sin
from uuid import UUID

import protovalidate
import pytest

from lares.reason.v1.assessment_pb2 import SEVERITY_UNSPECIFIED
from lares.reason.v1.evidence_pb2 import RELATION_FAMILY, RELATION_UNWELCOME, Evidence
from lares.reason.v1.reason_service_pb2 import AssessEventRequest
from lares.scene.v1.scene_pb2 import ZONE_KIND_ENTRY, ZONE_KIND_PRIVATE, Line, Point, Zone
from lares.store.v1.event_service_pb2 import FEEDBACK_KIND_FALSE_ALARM
from lares.store.v1.house_pb2 import SiteNote, SiteNotes
from mesh.problems import NotFound
from mesh.security import Caller
from store_svc.camera_repository import CameraRepository
from store_svc.domain.frozen_evidence import MOST_BYTES
from store_svc.feedback import FeedbackRepository
from store_svc.house.notes import set_site_notes
from store_svc.house.people import MAX_PEOPLE
from store_svc.queries.evidence import EvidenceReader, get_evidence
from store_svc.track_identities import TrackIdentities
from tests.support.callers import calling_as
from tests.support.facts import assessed, at, opened_by
from tests.support.recorded import Recorded, open_recorded
from tests.support.seen import polygon, seen

EVENT = UUID(opened_by(1))
ASSESSMENT = "00000000-0000-0000-0000-000000000001"
PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@pytest.fixture(autouse=True)
def as_phone() -> Iterator[None]:
    with calling_as(Caller.of_key("k1", "phone")):
        yield


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


def identities(store: Recorded) -> TrackIdentities:
    return TrackIdentities(store.database, EvidenceReader(), store.signals, lambda: store.now)


def cameras_of(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


async def evidence(store: Recorded, event: UUID = EVENT) -> Evidence:
    """Which also checks that it has its digest."""
    return await get_evidence(store.database, EvidenceReader(), str(event))


def _circle(radius: float) -> list[Point]:
    turns = [2 * pi * n / 64 for n in range(64)]
    return [Point(x=0.5 + radius * cos(turn), y=0.5 + radius * sin(turn)) for turn in turns]


async def test_a_house_that_is_as_large_as_it_can_be(store: Recorded) -> None:
    """Nothing stops the consumer; what is left out is named, and can still be said of a track."""
    name = "€" * 200
    zones = [
        Zone(id=f"{n:063}", name=name, kind=ZONE_KIND_PRIVATE, polygon=_circle(0.4 + n / 500))
        for n in range(32)
    ]
    lines = [
        Line(id=f"{n:063}", name=name, start=Point(x=n / 40, y=0), end=Point(x=n / 40, y=1))
        for n in range(32)
    ]
    await cameras_of(store).create("front", "€" * 100, "", True, {}, zones=zones, lines=lines)
    people = [await store.people.create(name, RELATION_FAMILY) for _ in range(MAX_PEOPLE)]
    await set_site_notes(store.database, SiteNotes(notes=[SiteNote(text="€" * 500)] * 16))
    await store.modes.set("m" * 63, None)
    for n in range(1, 31):
        await store.detect(seen(n, n * 100, (0.5, 0.5)))
    last = UUID(opened_by(30))
    message = await evidence(store, last)
    assert (len(message.zones), len(message.zones[0].polygon), len(message.past)) == (32, 64, 29)
    assert list(message.left_out) == ["site_notes", "people"]
    assert 0 < len(message.people) < MAX_PEOPLE
    known = {person.id for person in message.people}
    stranger = next(person for person in people if person.id not in known)
    store.now = at(3000)
    await store.presence.report(stranger.id, True)
    await identities(store).identify(last, message.tracks[0].id, stranger.id)
    named = await evidence(store, last)
    assert (named.tracks[0].identity.person_id, named.mode) == (stranger.id, "m" * 63)
    assert stranger.id in {person.id for person in named.people}
    bodies = await store.rows("SELECT length(body) AS bytes FROM event_evidence")
    assert max(row["bytes"] for row in bodies) <= MOST_BYTES
    await store.sweep(after=4000)
    leases = await store.take(most=50)
    assert sorted(lease.assess.evidence.event_id for lease in leases) == sorted(map(opened_by, range(1, 31)))
    for lease in leases:
        protovalidate.validate(AssessEventRequest(evidence=lease.assess.evidence))
    assert (store.detections.buried, await store.counts("events")) == ([], [30])


async def test_a_zone_that_goes_while_its_event_is_open(store: Recorded) -> None:
    """The event is measured by it to its end; the next one is not. Its id finds the event for ever."""
    zone = Zone(id="step", kind=ZONE_KIND_ENTRY, polygon=polygon(PICTURE))
    await cameras_of(store).create("front", "Front", "", True, {}, zones=[zone])
    await store.detect(seen(1, 0, (0.5, 0.5)))
    await cameras_of(store).update("front", {"zones": []})
    await store.detect(seen(2, 5, (0.52, 0.5)))
    await store.detect(seen(3, 100, (0.5, 0.5)))
    message = await evidence(store)
    (visit,) = message.tracks[0].visits
    assert (visit.zone_id, len(message.tracks[0].detection_indexes)) == ("step", 2)
    assert (await store.event(str(EVENT)))["zones"] == ["step"]
    later = await evidence(store, UUID(opened_by(3)))
    assert (len(later.zones), len(later.tracks[0].visits)) == (0, 0)
    assert later.past[0].event_id == str(EVENT)


async def test_a_deleted_camera_keeps_its_evidence_and_takes_names_and_modes(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.5, 0.5)))
    ada = await store.people.create("Ada", RELATION_FAMILY)
    before = await evidence(store)
    await cameras_of(store).delete("front")
    assert await evidence(store) == before
    await store.detect(seen(2, 5, (0.5, 0.5)))
    store.now = at(60)
    await store.modes.set("away", None)
    await identities(store).identify(EVENT, before.tracks[0].id, ada.id)
    message = await evidence(store)
    assert (message.mode, message.tracks[0].identity.person_id) == ("away", ada.id)
    assert len(message.detections) == 1
    await store.sweep(after=60)
    (lease,) = await store.take()
    assert lease.assess.evidence == message


async def test_names_frames_modes_and_a_deletion_at_once(store: Recorded) -> None:
    """In any order they end in one evidence, which has its digest, and is assessed."""
    await store.detect(seen(1, 0, (0.5, 0.5)))
    ada, bob = [await store.people.create(name, RELATION_UNWELCOME) for name in ("Ada", "Bob")]
    track = (await evidence(store)).tracks[0].id
    store.now = at(60)
    named = identities(store)
    results = await gather(
        named.identify(EVENT, track, ada.id),
        named.identify(EVENT, track, bob.id),
        store.people.delete(bob.id),
        store.detect(seen(2, 2, (0.51, 0.5))),
        store.modes.set("away", None),
        return_exceptions=True,
    )
    refused = [one for one in results if isinstance(one, BaseException)]
    assert all(isinstance(one, NotFound) and one.reason == "PERSON_NOT_FOUND" for one in refused), refused
    message = await evidence(store)
    assert (len(message.detections), message.mode) == (2, "away")
    assert message.tracks[0].identity.person_id in (ada.id, bob.id)
    assert len(await store.rows("SELECT 1 FROM track_identities")) == 1
    with pytest.raises(NotFound):
        await named.identify(EVENT, track, bob.id)
    await store.sweep(after=60)
    (lease,) = await store.take()
    assert lease.assess.evidence == message


async def test_a_name_that_comes_while_its_event_is_assessed(store: Recorded) -> None:
    """The assessment of what was leased is kept, with what is said of it, and another one follows."""
    await store.detect(seen(1, 0, (0.5, 0.5)))
    ada = await store.people.create("Ada", RELATION_FAMILY)
    await store.sweep(after=60)
    (lease,) = await store.take()
    leased = lease.assess.evidence
    await identities(store).identify(EVENT, leased.tracks[0].id, ada.id)
    await store.assess(assessed(str(EVENT), ASSESSMENT, leased.revision, leased.digest))
    feedback = FeedbackRepository(store.database, lambda: store.now)
    for note in ("a neighbour", "again"):
        await feedback.set(EVENT, UUID(ASSESSMENT), FEEDBACK_KIND_FALSE_ALARM, SEVERITY_UNSPECIFIED, note)
    assert [one.note for one in await feedback.batch([ASSESSMENT])] == ["again"]
    (lease,) = await store.take()
    assert lease.assess.evidence == await evidence(store)
    assert lease.assess.evidence.tracks[0].identity.person_id == ada.id
    with pytest.raises(NotFound) as error:
        await feedback.set(
            UUID(opened_by(2)), UUID(ASSESSMENT), FEEDBACK_KIND_FALSE_ALARM, SEVERITY_UNSPECIFIED, ""
        )
    assert error.value.reason == "ASSESSMENT_NOT_FOUND"
