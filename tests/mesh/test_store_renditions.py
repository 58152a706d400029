"""Renditions: requests, the jobs that make them, and their facts, on a real PostgreSQL. The test plays the
worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from lares.store.v1.rendition_pb2 import (
    RENDITION_STATE_FAILED,
    RENDITION_STATE_READY,
    RENDITION_STATE_WAITING,
    Rendition,
)
from mesh.problems import Conflict, Exhausted, NotFound
from mesh.security import EVERYBODY, Caller
from store_svc.commit_signals import CommitSignals
from store_svc.domain.rendition import ATTEMPTS
from store_svc.job_leases import RELEASED_SECONDS
from store_svc.renditions import rendition_requests
from store_svc.times import micros
from tests.support.facts import (
    at,
    clip_reported,
    opened_by,
    photo,
    render_failed,
    rendered,
    reported,
)
from tests.support.recorded import LEASE_SECONDS
from tests.support.renditions import (
    ANN,
    BEN,
    EVENT_CLIP,
    EVENT_PREVIEW,
    FRAMES,
    PLAYABLE,
    RenditionStore,
    open_renditions,
)

WAITING, READY, FAILED = RENDITION_STATE_WAITING, RENDITION_STATE_READY, RENDITION_STATE_FAILED
CLIP, EVENT = photo(1), opened_by(1)


@pytest.fixture
async def renditions(postgres_url: str, tmp_path: Path) -> AsyncIterator[RenditionStore]:
    async with open_renditions(postgres_url, tmp_path) as opened:
        await opened.store.detect(clip_reported(1, 0, (0, 0.9), (2000, 0.8), (4000, 0)))
        yield opened


async def test_a_rendition_from_its_request_to_its_content(renditions: RenditionStore) -> None:
    waiting = await renditions.request(FRAMES, CLIP)
    assert (waiting.state, waiting.kind, waiting.subject_id) == (WAITING, FRAMES, CLIP)
    (lease,) = await renditions.take()
    assert (lease.subject_id, lease.attempt, lease.WhichOneof("input")) == (waiting.id, 1, "render")
    assert lease.render.camera_id == "front"
    (source,) = lease.render.sources
    assert source.media.id == CLIP
    assert [frame.index for frame in source.frames] == [0, 2000, 4000]
    assert [micros(frame.captured_at) for frame in source.frames] == [micros(at(s)) for s in (0, 2, 4)]
    fact = rendered(waiting.id, await renditions.put(b"onetwo"), 6, (0, 0, 3), (2000, 3, 3))
    await renditions.record(fact)
    ready = await renditions.request(FRAMES, CLIP)
    assert (ready.id, ready.state, ready.blob) == (waiting.id, READY, fact.blob)
    assert await renditions.job(ready.id) is None
    row = await renditions.row(ready.id)
    assert row
    assert row["input"] == b""


async def test_many_requests_queue_it_once(renditions: RenditionStore) -> None:
    everybody = [Caller.of_key(f"key{n}", "") for n in range(8)]
    found = await asyncio.gather(*(renditions.request(FRAMES, CLIP, who=who) for who in everybody))
    assert len({rendition.id for rendition in found}) == 1
    assert await renditions.store.counts("renditions", "jobs WHERE kind = 2") == [1, 1]


async def test_a_request_waits_for_the_fact(
    renditions: RenditionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not for a poll."""
    monkeypatch.setattr(rendition_requests, "POLL_SECONDS", 3600)
    waiting = asyncio.create_task(renditions.request(FRAMES, CLIP, timeout=3600))
    while not (leases := await renditions.take()):
        await asyncio.sleep(0.01)
    await renditions.record(await renditions.make(leases[0].subject_id, b"made"))
    assert (await waiting).state == READY


async def test_a_request_learns_that_it_cannot_be_made(
    renditions: RenditionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendition_requests, "POLL_SECONDS", 3600)
    waiting = asyncio.create_task(renditions.request(FRAMES, CLIP, timeout=3600))
    while not (leases := await renditions.take()):
        await asyncio.sleep(0.01)
    await renditions.fail(leases[0].subject_id, permanent=True)
    failed = await waiting
    assert (failed.state, failed.failure.reason) == (FAILED, "CORRUPT")


async def test_a_request_that_is_due_wakes_a_worker(renditions: RenditionStore) -> None:
    due = renditions.store.signals.due.upcoming()
    await renditions.request(FRAMES, CLIP)
    assert due.is_set()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FRAMES, "MEDIA_NOT_FOUND"),
        (PLAYABLE, "MEDIA_NOT_FOUND"),
        (EVENT_CLIP, "EVENT_NOT_FOUND"),
        (EVENT_PREVIEW, "EVENT_NOT_FOUND"),
    ],
)
async def test_unknown_subjects(renditions: RenditionStore, kind: int, reason: str) -> None:
    with pytest.raises(NotFound) as error:
        await renditions.request(kind, str(uuid4()))  # type: ignore[arg-type]
    assert error.value.reason == reason


async def test_what_photos_do_not_have(renditions: RenditionStore) -> None:
    await renditions.store.detect(reported(2, 1000, ("person", 0.9)))
    for kind, subject in ((FRAMES, photo(2)), (PLAYABLE, photo(2)), (EVENT_CLIP, opened_by(2))):
        with pytest.raises(Conflict) as error:
            await renditions.request(kind, subject)
        assert error.value.reason == "NOTHING_TO_RENDER"
    assert (await renditions.request(EVENT_PREVIEW, opened_by(2))).state == WAITING


async def test_an_events_preview_has_its_frames_with_their_detections(renditions: RenditionStore) -> None:
    await renditions.store.detect(reported(2, 1, ("person", 0.7), ("person", 0.9)))
    await renditions.request(EVENT_PREVIEW, EVENT)
    (lease,) = await renditions.take()
    clip, shot = lease.render.sources
    assert (clip.media.id, shot.media.id) == (CLIP, photo(2))
    assert [frame.index for frame in clip.frames] == [0, 2000]  # nobody is in the third
    (frame,) = shot.frames
    assert [round(found.score, 3) for found in frame.detections] == [0.9, 0.7]


async def test_a_preview_has_at_most_40_frames(renditions: RenditionStore) -> None:
    await renditions.store.detect(clip_reported(2, 1000, *((n * 500, 0.9) for n in range(100))))
    await renditions.request(EVENT_PREVIEW, opened_by(2))
    (lease,) = await renditions.take()
    frames = [frame.index for frame in lease.render.sources[0].frames]
    assert (len(frames), frames[0], frames[-1]) == (40, 0, 49_500)


async def test_an_events_clip_is_cut_out_of_all_clips_of_that_time(renditions: RenditionStore) -> None:
    """From 5 s before it to 5 s after: also from clips that show nobody."""
    store = renditions.store
    await store.detect(clip_reported(2, -8, (0, 0), (4000, 0)), clip_reported(3, 6, (0, 0), (9000, 0)))
    await store.detect(clip_reported(4, -60, (0, 0), (50_000, 0)), clip_reported(5, 7.1, (0, 0)))
    await store.detect(reported(6, 1), clip_reported(1, 0, (0, 0), camera="back"))
    await renditions.request(EVENT_CLIP, EVENT)
    (lease,) = await renditions.take()
    assert [source.media.id for source in lease.render.sources] == [photo(2), CLIP, photo(3)]
    assert (micros(lease.render.start), micros(lease.render.end)) == (micros(at(-5)), micros(at(7)))


async def test_an_events_clip_is_cut_by_the_times_of_frames(renditions: RenditionStore) -> None:
    """A clip that turned out to be longer than its header says has frames that are earlier than its media."""
    messages = [clip_reported(n, seconds, (0, 0), (9000, 0)) for n, seconds in ((2, 9), (3, 4), (4, -13))]
    for message in messages:
        for frame in message.frames:
            frame.captured_at.FromMilliseconds(frame.captured_at.ToMilliseconds() - 3000)
    await renditions.store.detect(*messages)
    await renditions.request(EVENT_CLIP, EVENT)
    (lease,) = await renditions.take()
    begins = [
        (source.media.id, [(frame.index, micros(frame.captured_at)) for frame in source.frames])
        for source in lease.render.sources
    ]
    assert begins == [
        (CLIP, [(0, micros(at(0)))]),
        (photo(3), [(0, micros(at(1)))]),
        (photo(2), [(0, micros(at(6)))]),
    ]


async def test_an_event_that_grows_has_another_rendition(renditions: RenditionStore) -> None:
    for number, kind in enumerate((EVENT_PREVIEW, EVENT_CLIP), 2):
        before = await renditions.ready(kind, EVENT, b"before")
        await renditions.store.detect(reported(number, 10 * number, ("person", 0.9)))
        after = await renditions.ready(kind, EVENT, b"after")
        assert after.id != before.id
        assert after.blob != before.blob


async def test_another_setting_gives_another_rendition(
    renditions: RenditionStore, postgres_url: str, tmp_path: Path
) -> None:
    before = await renditions.ready(EVENT_CLIP, EVENT, b"cut")
    frames = await renditions.ready(FRAMES, CLIP, b"frames")
    other = RenditionStore(renditions.store, renditions.blobs, tmp_path, rolls=(10, 5))
    assert (await other.request(EVENT_CLIP, EVENT)).id != before.id
    assert (await other.request(FRAMES, CLIP)).id == frames.id


class TestLimits:
    async def clips(self, renditions: RenditionStore, count: int) -> list[str]:
        numbers = range(100, 100 + count)
        await renditions.store.detect(*(clip_reported(n, n * 1000, (0, 0.9)) for n in numbers))
        return [photo(n) for n in numbers]

    async def refused(self, renditions: RenditionStore, subject: str, who: Caller = ANN) -> None:
        with pytest.raises(Exhausted) as error:
            await renditions.request(FRAMES, subject, who=who)
        assert error.value.reason == "TOO_MANY_RENDITIONS"

    async def test_a_caller_waits_for_one(self, renditions: RenditionStore) -> None:
        (other,) = await self.clips(renditions, 1)
        first = await renditions.request(FRAMES, CLIP)
        await self.refused(renditions, other)
        assert (await renditions.request(FRAMES, CLIP)).id == first.id  # asking again is not refused
        assert (await renditions.request(FRAMES, other, who=BEN)).state == WAITING
        # Who asks for what another one has asked for waits for nothing of his own.
        assert (await renditions.request(FRAMES, CLIP, who=BEN)).id == first.id
        await renditions.record(await renditions.make(first.id, b"made"))
        assert (await renditions.request(PLAYABLE, CLIP)).state == WAITING

    async def test_a_caller_asks_for_several_at_once(self, renditions: RenditionStore) -> None:
        clips = await self.clips(renditions, 8)
        asked = (renditions.request(FRAMES, clip) for clip in clips)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(each, Rendition) for each in found) == 1
        assert sum(isinstance(each, Exhausted) for each in found) == 7

    async def test_a_request_waits_for_its_turn(
        self, renditions: RenditionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For as long as it would wait for what is made: a page that shows several gets them one by one."""
        monkeypatch.setattr(rendition_requests, "POLL_SECONDS", 3600)
        clips = await self.clips(renditions, 5)
        asked = [asyncio.create_task(renditions.request(FRAMES, clip, timeout=3600)) for clip in clips]
        for _ in clips:
            while not (leases := await renditions.take()):
                await asyncio.sleep(0.01)
            (lease,) = leases  # never more than one
            assert await renditions.store.counts("renditions WHERE state = 1") == [1]
            await renditions.record(await renditions.make(lease.subject_id, lease.subject_id.encode()))
        assert {each.state for each in await asyncio.gather(*asked)} == {READY}

    async def test_the_line_is_bounded(
        self, renditions: RenditionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rendition_requests, "MAX_IN_LINE", 2)
        clips = await self.clips(renditions, 3)
        first = await renditions.request(FRAMES, CLIP)
        asked = [asyncio.create_task(renditions.request(FRAMES, clip, timeout=3600)) for clip in clips]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [isinstance(task.exception(), Exhausted) for task in done] == [True]
        assert len(waiting) == 2
        await renditions.record(await renditions.make(first.id, b"made"))
        for _ in waiting:
            while not (leases := await renditions.take()):
                await asyncio.sleep(0.01)
            await renditions.record(
                await renditions.make(leases[0].subject_id, leases[0].subject_id.encode())
            )
        assert {task.result().state for task in (await asyncio.wait(waiting))[0]} == {READY}

    async def test_without_authentication_nobody_takes_anothers_turn(
        self, renditions: RenditionStore
    ) -> None:
        """All browsers are one caller then: only what is waited for in all is bounded."""
        clips = await self.clips(renditions, 20)
        for clip in clips:
            assert (await renditions.request(FRAMES, clip, who=EVERYBODY)).state == WAITING
        await self.refused(renditions, CLIP, who=EVERYBODY)

    async def test_20_are_waited_for(self, renditions: RenditionStore) -> None:
        clips = await self.clips(renditions, 21)
        asked = [renditions.request(FRAMES, clip, who=Caller.of_key(clip, "")) for clip in clips]
        found = await asyncio.gather(*asked, return_exceptions=True)
        accepted = [each for each in found if isinstance(each, Rendition)]
        assert len(accepted) == 20
        await self.refused(renditions, CLIP)
        await renditions.record(await renditions.make(accepted[0].id, b"made"))
        assert (await renditions.request(FRAMES, CLIP)).state == WAITING


class TestFailures:
    async def test_are_tried_again_after_growing_pauses_then_given_up(
        self, renditions: RenditionStore
    ) -> None:
        waiting = await renditions.request(FRAMES, CLIP)
        for attempt in range(1, ATTEMPTS + 1):
            (lease,) = await renditions.take()
            assert lease.attempt == attempt
            await renditions.fail(waiting.id)
            if attempt < ATTEMPTS:
                assert (await renditions.request(FRAMES, CLIP)).state == WAITING
                renditions.pass_time(2.0 ** (attempt - 1) - 0.001)
                assert await renditions.take() == []
                renditions.pass_time(0.001)
        failed = await renditions.request(FRAMES, CLIP)
        assert (failed.state, failed.failure.detail) == (FAILED, "The clip is damaged.")
        assert await renditions.job(waiting.id) is None

    async def test_a_permanent_one_is_not_tried_again(self, renditions: RenditionStore) -> None:
        waiting = await renditions.request(FRAMES, CLIP)
        await renditions.take()
        await renditions.fail(waiting.id, permanent=True)
        assert (await renditions.request(FRAMES, CLIP)).state == FAILED
        assert await renditions.job(waiting.id) is None

    async def test_a_repeated_fact_counts_once(self, renditions: RenditionStore) -> None:
        waiting = await renditions.request(FRAMES, CLIP)
        fact = render_failed(waiting.id, str(uuid4()))
        await renditions.record(fact, fact)
        await renditions.record(fact)
        job = await renditions.job(waiting.id)
        assert job
        assert job["attempts"] == 1

    async def test_given_up_it_can_be_requested_again_an_hour_later(self, renditions: RenditionStore) -> None:
        waiting = await renditions.request(FRAMES, CLIP)
        await renditions.fail(waiting.id, permanent=True)
        renditions.pass_time(3599)
        await renditions.eviction.evict()
        assert (await renditions.request(FRAMES, CLIP)).state == FAILED
        renditions.pass_time(1)
        await renditions.eviction.evict()
        again = await renditions.request(FRAMES, CLIP)
        assert (again.id, again.state, again.HasField("failure")) == (waiting.id, WAITING, False)

    async def test_content_that_arrives_after_it_was_given_up_counts(
        self, renditions: RenditionStore
    ) -> None:
        waiting = await renditions.request(FRAMES, CLIP)
        await renditions.fail(waiting.id, permanent=True)
        await renditions.record(await renditions.make(waiting.id, b"late"))
        assert (await renditions.request(FRAMES, CLIP)).state == READY

    async def test_without_a_blob_content_is_a_failure(self, renditions: RenditionStore) -> None:
        """It was deleted between being put and being recorded."""
        waiting = await renditions.request(FRAMES, CLIP)
        fact = await renditions.make(waiting.id, b"made")
        renditions.path(fact.blob.sha256).unlink()
        await renditions.record(fact)
        assert (await renditions.request(FRAMES, CLIP)).state == WAITING
        renditions.pass_time(1)
        (lease,) = await renditions.take()
        assert lease.attempt == 2
        await renditions.record(await renditions.make(waiting.id, b"made"))
        assert (await renditions.request(FRAMES, CLIP)).state == READY


class TestLeases:
    async def test_progress_is_told_and_ends_with_the_lease(self, renditions: RenditionStore) -> None:
        waiting = await renditions.request(PLAYABLE, CLIP)
        (lease,) = await renditions.take()
        leases = renditions.store.leases
        assert (await leases.renew([lease.lease_id], {lease.lease_id: 0.5}))[0] == [lease.lease_id]
        assert (await renditions.request(PLAYABLE, CLIP)).progress == 0.5
        await leases.renew([lease.lease_id])
        assert (await renditions.request(PLAYABLE, CLIP)).progress == 0.5
        for said, told in ((7.0, 1.0), (-1.0, 0.0), (0.25, 0.25), (float("nan"), 0.25)):
            await leases.renew([lease.lease_id], {lease.lease_id: said, str(uuid4()): 1.0})
            assert (await renditions.request(PLAYABLE, CLIP)).progress == told
        await leases.release([lease.lease_id])
        released = await renditions.request(PLAYABLE, CLIP)
        assert (released.progress, released.state) == (0, WAITING)
        renditions.pass_time(RELEASED_SECONDS)
        (lease,) = await renditions.take()
        assert lease.attempt == 1
        await leases.renew([lease.lease_id], {lease.lease_id: 0.5})
        await renditions.fail(waiting.id)
        assert (await renditions.request(PLAYABLE, CLIP)).progress == 0

    async def test_nothing_is_leased_before_the_facts_are_read(self, renditions: RenditionStore) -> None:
        store = renditions.store
        waiting = await renditions.request(FRAMES, CLIP)
        store.renditions.end = {0: 1}
        await store.facts.update()  # those of the other kind
        assert not await store.rendered_facts.update()
        assert await renditions.take() == []
        await renditions.record(await renditions.make(waiting.id, b"made"))
        assert await store.rendered_facts.update()
        assert await renditions.take() == []  # it was made before the start

    async def test_an_expired_lease_waits_for_its_own_topic(self, renditions: RenditionStore) -> None:
        store = renditions.store
        await renditions.request(FRAMES, CLIP)
        (lease,) = await renditions.take()
        store.renditions.end = {0: 1}
        await store.sweep(after=LEASE_SECONDS)
        await store.sweep(after=1)
        assert await renditions.take() == []
        await renditions.record(await renditions.make(lease.subject_id, b"made"))
        await store.sweep(after=1)
        assert await renditions.take() == []

    async def test_an_expired_lease_is_leased_again(self, renditions: RenditionStore) -> None:
        await renditions.request(FRAMES, CLIP)
        (first,) = await renditions.take()
        await renditions.store.sweep(after=LEASE_SECONDS)
        (second,) = await renditions.take()
        assert (first.subject_id, first.render) == (second.subject_id, second.render)
        assert (await renditions.store.leases.renew([first.lease_id]))[0] == []

    async def test_the_kinds_are_leased_apart(self, renditions: RenditionStore) -> None:
        await renditions.store.sweep(after=30)  # closes the event
        await renditions.request(FRAMES, CLIP)
        (assess,) = await renditions.store.take()
        (render,) = await renditions.take()
        assert (assess.subject_id, assess.WhichOneof("input")) == (EVENT, "assess")
        assert render.WhichOneof("input") == "render"


async def test_another_process_sees_the_content(renditions: RenditionStore, tmp_path: Path) -> None:
    """Without a signal, by looking again."""
    other = RenditionStore(renditions.store, renditions.blobs, tmp_path)
    other.requests = rendition_requests.RenditionRequests(
        renditions.store.database,
        renditions.inputs,
        renditions.blobs,
        CommitSignals(),
        lambda: renditions.store.now,
    )
    waiting = asyncio.create_task(other.request(FRAMES, CLIP, timeout=60))
    while not (leases := await renditions.take()):
        await asyncio.sleep(0.01)
    await renditions.record(await renditions.make(leases[0].subject_id, b"made"))
    assert (await waiting).state == READY
