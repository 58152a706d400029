"""Clips in the store: their frames join events like photos, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from itertools import permutations

import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from store_svc.queries.media import get_media
from tests.support.facts import MODEL, assessed, at, clip_reported, opened_by, photo, reported
from tests.support.recorded import Recorded, open_recorded


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


def walk(n: int, seconds: float, frames: int = 8, every: int = 500) -> MediaDetected:
    """A clip of somebody who walks from left to right, by a clock that shows `seconds` at the beginning."""
    message = clip_reported(n, seconds, *[(step * every, 0.75) for step in range(frames)])
    for step, frame in enumerate(message.frames):
        box = frame.detections[0].bounding_box
        box.x_min, box.x_max = 0.1 + 0.03 * step, 0.2 + 0.03 * step
    message.media.clip.video_codec = "h264"
    message.media.clip.duration.FromMilliseconds(frames * every)
    message.frame_choice.version = "frames/v1"
    return message


def snapshot(n: int, seconds: float, step: int) -> MediaDetected:
    """A photo of the walker where frame `step` of `walk` shows him."""
    message = reported(n, seconds, ("person", 0.75), model=MODEL)
    box = message.frames[0].detections[0].bounding_box
    box.x_min, box.x_max = 0.1 + 0.03 * step, 0.2 + 0.03 * step
    return message


@pytest.mark.parametrize("shift", [-4.0, 0.0, 4.0])
@pytest.mark.parametrize("order", list(permutations((0, 1))))
async def test_a_snapshot_and_a_clip_of_one_scene_are_one_event_with_one_person(
    store: Recorded, order: Sequence[int], shift: float
) -> None:
    """In either order, with clocks that are four seconds apart or agree."""
    messages = snapshot(1, 10 + 1.5 + shift, step=3), walk(2, 10)
    await store.detect(*(messages[place] for place in order))
    (event,) = await store.rows("SELECT id, detection_count, media_count, most_at_once FROM events")
    assert (event["detection_count"], event["media_count"], event["most_at_once"]) == (9, 2, 1)
    await store.sweep(60)
    (lease,) = await store.take()
    (track,) = lease.assess.evidence.tracks
    assert sorted(track.detection_indexes) == list(range(9))
    assert lease.assess.evidence.derivation == "tracks/v2"


async def test_a_clip_keeps_what_only_clips_have_and_its_poster_is_the_frame_that_shows_most(
    store: Recorded,
) -> None:
    message = clip_reported(1, 0, (0, 0), (2000, 0.6), (4000, 0.9), (6000, 0.8))
    message.media.clip.video_codec = "hevc"
    message.frame_choice.version = "frames/v1"
    moving = clip_reported(2, 1000, (0, 0), (2000, 0), (4000, 0))
    moving.frames[1].motion_significance = 0.5
    await store.detect(message, moving)
    stored = await get_media(store.database, photo(1))
    assert (stored.poster_frame, stored.media.clip.video_codec) == (4000, "hevc")
    assert stored.frame_choice.version == "frames/v1"
    assert (await get_media(store.database, photo(2))).poster_frame == 2000


async def test_a_clip_that_is_reported_again_changes_nothing(store: Recorded) -> None:
    """Its record was delivered twice, or two detectors had it in work, one with other frames: the first
    counts."""
    tables = ("media", "frames", "events", "detections", "feed", "jobs")
    message = walk(1, 0)
    await store.detect(message)
    before = [await store.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]
    other = walk(1, 0, frames=5, every=700)
    await store.detect(message, message)
    await store.detect(other, message)
    assert [await store.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables] == before
    assert len(before[1]) == len(before[3]) == 8


async def test_a_long_clip_belongs_to_several_events(store: Recorded) -> None:
    """An event spans at most 90 s."""
    await store.detect(clip_reported(1, 0, *[(step * 10_000, 0.75) for step in range(20)]))
    events = await store.rows("SELECT detection_count, media_count FROM events ORDER BY started_at")
    assert [tuple(event.values()) for event in events] == [(10, 1), (10, 1)]


async def test_a_clip_that_goes_on_in_an_assessed_event_is_no_change_that_people_see(store: Recorded) -> None:
    await store.detect(walk(1, 0))
    (lease,) = await store.take()
    evidence = lease.assess.evidence
    id = opened_by(1)
    await store.assess(
        assessed(id, "6f9d5f4e-8c3b-4c6a-9d7e-0a1b2c3d4e5f", evidence.revision, evidence.digest)
    )
    before = len(await store.feed())
    await store.detect(walk(2, 4))
    assert len(await store.feed()) == before
    event = await store.event(id)
    assert (event["detection_count"], event["media_count"]) == (16, 2)
    assert event["ended_at"] == at(7.5)
    two = walk(3, 8)
    two.frames[0].detections.add(rank=1, label="person", score=0.7).bounding_box.x_max = 0.9
    await store.detect(two)
    assert len(await store.feed()) == before + 1
    await store.sweep(60)  # closes it, which people see, and its evidence is assessed again
    assert len(await store.feed()) == before + 2
    (again,) = await store.take()
    assert len(again.assess.evidence.detections) == 25
