"""A home of commit 09640b9, started with today's code, reaches the state that its own code brought it to.

It has pending, leased, failed, hastened and requested events, raw answers, thresholds of cameras, dead
letters, and unread records on all four topics. See tests/homes.
"""

import hashlib
import io
from collections.abc import AsyncIterator

import grpc
import pytest
from PIL import Image

from lares.store.v1 import event_service_pb2 as events
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from tests.homes import scripted_model
from tests.homes.home import SETTINGS, golden, unpack
from tests.homes.outcome import by_todays_rules, differences, read_first_names, read_outcome
from tests.support.jobs_left import jobs_left
from tests.support.lares import Lares, running_lares
from tests.support.rendered_clips import fetched
from tests.support.scripted_llm import scripted


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lares]:
    """Lares on the home, idle, with a model that always answers."""
    home = tmp_path_factory.mktemp("upgrade") / "home"
    await unpack(home)
    async with scripted() as llm:
        llm.always = scripted_model.answers
        async with running_lares(
            home, SETTINGS | {"LARES_REASONER_URL": llm.url(), "LARES_REASON_PROMPT": "v1"}
        ) as started:
            try:
                await started.idle()
            except AssertionError as error:
                error.add_note(f"jobs left: {await jobs_left(home)}")
                raise
            yield started


async def test_it_reaches_the_state_that_its_own_code_brought_it_to(lares: Lares) -> None:
    found = await read_outcome(lares, golden())
    wanted = by_todays_rules(golden(), found)
    assert differences(wanted, found) == []
    kept = [
        id for id, assessment in golden()["assessments"].items() if wanted["assessments"][id] == assessment
    ]
    assert kept  # those that its own code had made


async def test_its_feed_has_no_gap(lares: Lares) -> None:
    changes: list[events.ListChangesResponse] = []
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        stub, after = EventServiceStub(channel), 0
        while not changes or after < changes[-1].head:
            request = events.ListChangesRequest(after=after)
            changes.append(await stub.ListChanges(request, metadata=(("x-api-key", lares.key),), timeout=30))
            after = changes[-1].changes[-1].sequence
    feed = [change for page in changes for change in page.changes]
    assert [change.sequence for change in feed] == list(range(1, after + 1))
    names = await read_first_names(lares, golden())
    last = {
        change.event.id: names.get(change.event.assessment.id, change.event.assessment.id) for change in feed
    }
    assert last == {id: event["assessment"] for id, event in golden()["events"].items()}


async def test_listed_events_do_not_contain_raw_answers(lares: Lares) -> None:
    """Neither those that its own code had recorded, nor those that it had not read yet."""
    raw_answers = {id: known["raw_answer"] for id, known in golden()["assessments"].items()}
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        request = events.ListEventsRequest(page_size=100)
        listing = EventServiceStub(channel).ListEvents(
            request, metadata=(("x-api-key", lares.key),), timeout=30
        )
        listed = (await listing).events
    assert {event.id for event in listed} == golden()["events"].keys()
    names = await read_first_names(lares, golden())
    for event in listed:
        raw_answer = raw_answers[names.get(event.assessment.id, event.assessment.id)]
        assert raw_answer
        bare = Event.FromString(event.SerializeToString())
        bare.assessment.ClearField("raw_answer")
        bare.DiscardUnknownFields()
        assert event.ByteSize() == bare.ByteSize()


async def test_an_event_keeps_the_version_of_its_evidence(lares: Lares) -> None:
    """Also one that photos joined which today's code has read; what it has opened has evidence of today."""
    names = await read_first_names(lares, golden())
    digests = {event["digest"] for event in golden()["events"].values()}
    assert 0 < len(digests & set(names.values())) < len(digests)


async def test_every_photo_is_still_there(lares: Lares) -> None:
    for id, media in golden()["media"].items():
        answer = await lares.get(f"/media/{id}")
        assert hashlib.sha256(answer.content).hexdigest() == media["sha256"]


async def test_its_photos_are_frames_and_its_events_have_previews(lares: Lares) -> None:
    """What its own code did not know."""
    query = """{ events(first: 1) { edges { node { clipUrl previewUrl
      media { id kind durationSeconds playableUrl frames { index } } } } } }"""
    (edge,) = (await lares.graphql(query))["events"]["edges"]
    event = edge["node"]
    for media in event["media"]:
        id = media.pop("id")
        photo = {"kind": "PHOTO", "durationSeconds": None, "playableUrl": None, "frames": [{"index": 0}]}
        assert media == photo, id
    assert event["clipUrl"] is None
    preview = await fetched(lares, event["previewUrl"])
    with Image.open(io.BytesIO(preview.content)) as animation:
        assert animation.format == "WEBP"
