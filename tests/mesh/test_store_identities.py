"""Saying who a track is, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from lares.reason.v1.evidence_pb2 import RELATION_FRIEND, RELATION_RESIDENT, Evidence
from mesh.problems import Conflict, NotFound, Problem
from mesh.security import Caller
from store_svc.queries.evidence import EvidenceReader, get_evidence
from store_svc.track_identities import TrackIdentities
from tests.support.callers import calling_as
from tests.support.facts import assessed, at, detected, opened_by
from tests.support.recorded import Recorded, open_recorded, sequences
from tests.support.seen import seen

EVENT = UUID(opened_by(1))
ASSESSMENT = "00000000-0000-0000-0000-000000000001"


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


async def evidence(store: Recorded) -> Evidence:
    return await get_evidence(store.database, EvidenceReader(), str(EVENT))


def names(message: Evidence) -> list[str | None]:
    return [t.identity.person_id if t.HasField("identity") else None for t in message.tracks]


async def test_a_name_is_part_of_the_evidence_and_has_it_assessed_again(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5), (0.8, 0.9)), seen(2, 2, (0.25, 0.5)))
    await store.sweep(after=60)
    first = (await store.take())[0].assess.evidence
    await store.assess(assessed(str(EVENT), ASSESSMENT, first.revision, first.digest))
    assert await store.job(str(EVENT)) is None
    ada = await store.people.create("Ada", RELATION_RESIDENT)
    walker = next(track for track in first.tracks if len(track.detection_indexes) == 2)
    event = await identities(store).identify(EVENT, walker.id.upper(), ada.id)
    message = await evidence(store)
    assert sorted(names(message), key=str) == sorted([ada.id, None], key=str)
    assert [(one.id, one.name, one.relation) for one in message.people] == [
        (ada.id, "Ada", RELATION_RESIDENT)
    ]
    assert (message.revision, message.digest != first.digest) == (event.revision, True)
    assert sequences(await store.feed()) == [1, 2, 3, 4]
    (lease,) = await store.take()
    assert lease.assess.evidence == message


async def test_the_same_again_changes_nothing_and_another_name_replaces_it(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5)))
    ada, bob = [await store.people.create(name, RELATION_FRIEND) for name in ("Ada", "Bob")]
    track = (await evidence(store)).tracks[0].id
    one = await identities(store).identify(EVENT, track, ada.id)
    again = await identities(store).identify(EVENT, track, ada.id)
    assert (one, await store.counts("track_identities")) == (again, [1])
    await identities(store).identify(EVENT, track, bob.id)
    message = await evidence(store)
    assert (names(message), [person.name for person in message.people]) == ([bob.id], ["Bob"])
    await identities(store).identify(EVENT, track, "")
    message = await evidence(store)
    assert (names(message), len(message.people)) == ([""], 0)


async def test_a_name_stays_when_the_person_is_deleted(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5)))
    ada = await store.people.create("Ada", RELATION_FRIEND)
    await identities(store).identify(EVENT, (await evidence(store)).tracks[0].id, ada.id)
    before = await evidence(store)
    await store.people.delete(ada.id)
    assert await evidence(store) == before


async def test_frames_that_join_keep_the_name_and_lose_it_only_if_no_track_has_it(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5)), seen(2, 20, (0.22, 0.5)))
    (track,) = (await evidence(store)).tracks
    ada = await store.people.create("Ada", RELATION_FRIEND)
    await identities(store).identify(EVENT, track.id, ada.id)
    await store.detect(seen(3, 22, (0.24, 0.5)))
    assert names(await evidence(store)) == [ada.id]
    # Whoever was there at first went away, and somebody else came: the track falls into two parts.
    await store.detect(seen(4, 2, (0.45, 0.5)), seen(5, 4, (0.7, 0.5)), seen(6, 19.9, (0.9, 0.5)))
    message = await evidence(store)
    assert len(message.tracks) == 2
    assert names(message) == [None, None]
    assert [one.person_id for one in message.lost_identities] == [ada.id]
    assert (await store.event(str(EVENT)))["evidence_digest"] == message.digest


async def test_a_name_outlives_a_change_of_the_mode(store: Recorded) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5)))
    ada = await store.people.create("Ada", RELATION_FRIEND)
    await identities(store).identify(EVENT, (await evidence(store)).tracks[0].id, ada.id)
    store.now = at(60)
    await store.modes.set("away", None)
    message = await evidence(store)
    assert (names(message), message.mode) == ([ada.id], "away")


@pytest.mark.parametrize(
    ("event", "track", "person", "kind", "reason"),
    [
        ("other", "", "", NotFound, "EVENT_NOT_FOUND"),
        ("", "other", "", NotFound, "TRACK_NOT_FOUND"),
        ("", "", "other", NotFound, "PERSON_NOT_FOUND"),
    ],
)
async def test_what_does_not_exist(
    store: Recorded, event: str, track: str, person: str, kind: type[Problem], reason: str
) -> None:
    await store.detect(seen(1, 0, (0.2, 0.5)))
    known = (await evidence(store)).tracks[0].id
    before = await evidence(store)
    with pytest.raises(kind) as error:
        await identities(store).identify(
            uuid4() if event else EVENT, str(uuid4()) if track else known, str(uuid4()) if person else ""
        )
    assert error.value.reason == reason
    assert await evidence(store) == before


async def test_an_event_of_an_earlier_version_has_no_tracks(store: Recorded) -> None:
    await store.detect(detected(1, 0))
    await store.rows("DELETE FROM event_evidence")
    with pytest.raises(Conflict) as error:
        await identities(store).identify(EVENT, str(uuid4()), "")
    assert error.value.reason == "EVIDENCE_TOO_OLD"
