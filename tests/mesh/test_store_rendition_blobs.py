"""What is kept of renditions: whatever happens in whatever order, rows and blobs agree."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from lares.detect.v1.events_pb2 import MediaRendered
from lares.store.v1.rendition_pb2 import (
    RENDITION_STATE_READY,
    RENDITION_STATE_WAITING,
    RenditionKind,
)
from mesh.identity import media_id
from mesh.problems import Exhausted, Unavailable
from store_svc.domain.rendition import READY, WAITING
from store_svc.renditions.unused_blobs import CLOCK_MARGIN
from tests.support.facts import clip_reported, opened_by, photo, render_failed
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

MARGIN = CLOCK_MARGIN.total_seconds()
CLIPS = 6


@pytest.fixture
async def renditions(postgres_url: str, tmp_path: Path) -> AsyncIterator[RenditionStore]:
    """100 bytes are kept."""
    async with open_renditions(postgres_url, tmp_path) as opened:
        await opened.store.detect(*(clip_reported(n, n * 1000, (0, 0.9)) for n in range(1, CLIPS + 1)))
        yield opened


class TestEviction:
    async def test_the_longest_unused_go(self, renditions: RenditionStore) -> None:
        contents = {n: str(n).encode() * 40 for n in (1, 2, 3)}
        for n in (1, 2):
            await renditions.ready(FRAMES, photo(n), contents[n])
            renditions.pass_time(120)
        await renditions.request(FRAMES, photo(1))
        renditions.pass_time(120)
        await renditions.ready(FRAMES, photo(3), contents[3])
        await renditions.eviction.evict()
        rows = await renditions.store.rows("SELECT subject_id FROM renditions ORDER BY last_used_at")
        assert [str(row["subject_id"]) for row in rows] == [photo(1), photo(3)]
        assert len(await renditions.kept()) == 2
        assert (await renditions.request(FRAMES, photo(2))).state == RENDITION_STATE_WAITING

    async def test_the_bound_is_inclusive(self, renditions: RenditionStore) -> None:
        for n, size in ((1, 60), (2, 40)):
            await renditions.ready(FRAMES, photo(n), bytes([n]) * size)
        await renditions.eviction.evict()
        assert await renditions.store.counts("renditions") == [2]
        await renditions.ready(FRAMES, photo(3), b"3")
        await renditions.eviction.evict()
        assert await renditions.store.counts("renditions") == [2]

    async def test_one_that_exceeds_the_bound_by_itself_stays_until_the_next(
        self, renditions: RenditionStore
    ) -> None:
        """Otherwise whoever has asked for it would never get it."""
        await renditions.ready(FRAMES, photo(1), bytes(1000))
        await renditions.eviction.evict()
        assert (await renditions.request(FRAMES, photo(1))).state == RENDITION_STATE_READY
        renditions.pass_time(120)
        await renditions.ready(FRAMES, photo(2), b"small")
        await renditions.eviction.evict()
        assert (await renditions.request(FRAMES, photo(1))).state == RENDITION_STATE_WAITING

    async def test_what_waits_stays(self, renditions: RenditionStore) -> None:
        waiting = await renditions.request(FRAMES, photo(1))
        renditions.pass_time(3600)
        for n in (2, 3):
            await renditions.ready(FRAMES, photo(n), bytes([n]) * 90, who=BEN)
        await renditions.eviction.evict()
        assert (await renditions.request(FRAMES, photo(1))).id == waiting.id
        assert await renditions.job(waiting.id)

    async def test_use_is_written_once_a_minute(self, renditions: RenditionStore) -> None:
        made = await renditions.ready(FRAMES, photo(1), b"made")
        began = renditions.store.now
        for seconds, written in ((59, 0), (1, 60), (59, 60), (1, 120)):
            renditions.pass_time(seconds)
            await renditions.request(FRAMES, photo(1))
            row = await renditions.row(made.id)
            assert row
            assert row["last_used_at"] == began + timedelta(seconds=written)

    async def test_content_that_is_gone_is_made_again(self, renditions: RenditionStore) -> None:
        """The database was restored from a backup, for example."""
        made = await renditions.ready(FRAMES, photo(1), b"made")
        renditions.path(made.blob.sha256).unlink()
        renditions.pass_time(60)
        again = await renditions.request(FRAMES, photo(1))
        assert (again.id, again.state) == (made.id, RENDITION_STATE_WAITING)

    async def evict(self, renditions: RenditionStore, n: int) -> None:
        """The rendition of that clip, by a large one of another."""
        renditions.pass_time(120)
        await renditions.ready(FRAMES, photo(CLIPS), b"large" * 20)
        await renditions.eviction.evict()
        rows = await renditions.store.rows("SELECT 1 FROM renditions WHERE subject_id = $1", photo(n))
        assert rows == []

    async def test_a_blob_that_another_rendition_has_stays(self, renditions: RenditionStore) -> None:
        first = await renditions.request(FRAMES, photo(1))
        second = await renditions.request(FRAMES, photo(2), who=BEN)
        await renditions.record(*[await renditions.make(each.id, b"same") for each in (first, second)])
        renditions.pass_time(120)
        other = await renditions.request(FRAMES, photo(2))
        small = RenditionStore(renditions.store, renditions.blobs, renditions.folder, most_bytes=4)
        await small.eviction.evict()
        assert await renditions.store.counts("renditions", "unused_blobs") == [1, 0]
        assert await renditions.kept() == {other.blob.sha256}

    async def test_the_original_of_a_media_stays(self, renditions: RenditionStore) -> None:
        """Somebody has uploaded a rendition."""
        made = await renditions.ready(PLAYABLE, photo(1), b"playable")
        uploaded = clip_reported(90, 9000, (0, 0.9), camera="uploads")
        uploaded.media.sha256 = made.blob.sha256
        uploaded.media.id = media_id("uploads", made.blob.sha256)
        await renditions.store.detect(uploaded)
        await self.evict(renditions, 1)
        assert made.blob.sha256 in await renditions.kept()
        assert await renditions.store.counts("unused_blobs") == [0]

    async def test_what_was_put_again_stays(self, renditions: RenditionStore) -> None:
        """Its media is announced, and not recorded yet."""
        made = await renditions.ready(PLAYABLE, photo(1), b"playable")
        renditions.pass_time(MARGIN)
        await renditions.put(b"playable")
        await self.evict(renditions, 1)
        assert made.blob.sha256 in await renditions.kept()

    async def test_a_kill_between_row_and_blob_leaves_nothing_behind(
        self, renditions: RenditionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = await renditions.ready(FRAMES, photo(1), b"made")
        renditions.pass_time(120)
        await renditions.ready(FRAMES, photo(2), b"large" * 20)

        async def away(*_: object, **__: object) -> bool:
            raise Unavailable("away", "BLOBS_UNAVAILABLE")

        with monkeypatch.context() as patch:
            patch.setattr(renditions.blobs, "delete", away)
            with pytest.raises(Unavailable):
                await renditions.eviction.evict()
        assert await renditions.row(made.id) is None
        assert made.blob.sha256 in await renditions.kept()
        await renditions.eviction.evict()
        assert made.blob.sha256 not in await renditions.kept()
        assert await renditions.store.counts("unused_blobs") == [0]


class TestLateFacts:
    async def test_the_first_content_counts(self, renditions: RenditionStore) -> None:
        first = await renditions.ready(FRAMES, photo(1), b"first")
        second = await renditions.make(first.id, b"second")
        await renditions.record(second)
        assert (await renditions.request(FRAMES, photo(1))).blob == first.blob
        assert await renditions.eviction.evict()  # too soon to delete
        assert second.blob.sha256 in await renditions.kept()
        renditions.pass_time(MARGIN)
        assert not await renditions.eviction.evict()
        assert await renditions.kept() == {first.blob.sha256}

    async def test_a_failure_after_the_content_changes_nothing(self, renditions: RenditionStore) -> None:
        first = await renditions.ready(FRAMES, photo(1), b"first")
        await renditions.fail(first.id, permanent=True)
        assert await renditions.request(FRAMES, photo(1)) == first

    async def test_those_of_evicted_ones_leave_nothing(self, renditions: RenditionStore) -> None:
        first = await renditions.ready(FRAMES, photo(1), b"first")
        renditions.pass_time(120)
        large = await renditions.ready(FRAMES, photo(2), b"large" * 20)
        await renditions.eviction.evict()
        late = await renditions.make(first.id, b"late")
        await renditions.record(late, render_failed(first.id, photo(9)))
        assert await renditions.row(first.id) is None
        renditions.pass_time(MARGIN)
        await renditions.eviction.evict()
        assert await renditions.kept() == {large.blob.sha256}

    async def test_one_whose_blob_was_deleted_is_not_resurrected(self, renditions: RenditionStore) -> None:
        """Two renditions of the same content: the one is evicted before the fact of the other arrives."""
        first = await renditions.request(FRAMES, photo(1))
        second = await renditions.request(FRAMES, photo(2), who=BEN)
        late = await renditions.make(second.id, b"same")
        await renditions.record(await renditions.make(first.id, b"same"))
        renditions.pass_time(120)
        await renditions.ready(FRAMES, photo(3), b"large" * 20)
        await renditions.eviction.evict()
        await renditions.record(late)
        assert (await renditions.request(FRAMES, photo(2))).state == RENDITION_STATE_WAITING
        renditions.pass_time(1)
        assert [lease.subject_id for lease in await renditions.take()] == [second.id]


class Life:
    """Random requests, leases, facts in any order and repeated, and evictions."""

    KINDS = (FRAMES, PLAYABLE, EVENT_PREVIEW, EVENT_CLIP)

    def __init__(self, renditions: RenditionStore, seed: int) -> None:
        self.renditions, self.chance = renditions, Random(seed)
        self.leased: list[str] = []
        self.facts: list[MediaRendered] = []
        self.told: list[MediaRendered] = []
        self.made: set[str] = set()

    def subject(self, kind: RenditionKind.ValueType) -> str:
        n = self.chance.randint(1, CLIPS)
        return photo(n) if kind in (FRAMES, PLAYABLE) else opened_by(n)

    async def request(self) -> None:
        kind = self.chance.choice(self.KINDS)
        who = self.chance.choice((ANN, BEN))
        try:
            found = await self.renditions.request(kind, self.subject(kind), who=who)
        except Exhausted:
            return
        if found.state == RENDITION_STATE_READY:
            assert found.blob.sha256 in await self.renditions.kept()

    async def lease(self) -> None:
        self.leased += [lease.subject_id for lease in await self.renditions.take(2)]

    async def render(self) -> None:
        """Perhaps twice, by two workers; contents of different renditions may be the same."""
        if self.leased:
            id = self.chance.choice(self.leased)
            content = self.chance.choice((b"same" * 9, id.encode(), self.chance.randbytes(30)))
            self.facts.append(await self.renditions.make(id, content))

    async def fail(self) -> None:
        if self.leased:
            id, permanent = self.chance.choice(self.leased), self.chance.random() < 0.2
            self.facts.append(render_failed(id, photo(self.chance.randrange(999)), permanent=permanent))

    async def tell(self) -> None:
        """Some of the facts that were published, in any order, and some that were told before."""
        self.chance.shuffle(self.facts)
        now, self.facts = self.facts[:2], self.facts[2:]
        again = self.chance.sample(self.told, min(len(self.told), self.chance.randint(0, 1)))
        if now or again:
            await self.renditions.record(*now, *again)
            self.told += now

    async def evict(self) -> None:
        await self.renditions.eviction.evict()

    async def wait(self) -> None:
        await self.renditions.store.sweep(after=self.chance.choice((1, 15, 90)))

    async def agree(self) -> None:
        """Every rendition that is ready has its blob, and those that wait, and no others, have a job."""
        kept = await self.renditions.kept()
        for row in await self.renditions.store.rows("SELECT * FROM renditions"):
            assert (await self.renditions.job(row["id"]) is not None) == (row["state"] == WAITING)
            assert (row["sha256"] is not None) == (row["state"] == READY)
            assert row["sha256"] is None or row["sha256"] in kept
        jobs, renditions = "jobs WHERE kind = 2", "renditions WHERE state = 1"
        assert len(set(await self.renditions.store.counts(jobs, renditions))) == 1

    async def settle(self) -> None:
        """Nothing is under way any more."""
        while self.facts:
            await self.tell()
        self.renditions.pass_time(MARGIN)
        assert not await self.renditions.eviction.evict()
        await self.agree()
        rows = await self.renditions.store.rows("SELECT sha256, size_bytes FROM renditions WHERE state = 2")
        assert await self.renditions.kept() == {row["sha256"] for row in rows}
        assert sum(row["size_bytes"] for row in rows) <= 100


@pytest.mark.parametrize("seed", range(8))
async def test_rows_and_blobs_agree_in_any_order(renditions: RenditionStore, seed: int) -> None:
    life = Life(renditions, seed)
    steps: list[Callable[[], object]] = [
        life.request, life.request, life.lease, life.render, life.render, life.fail, life.tell, life.tell,
        life.evict, life.wait,
    ]  # fmt: skip
    for _ in range(120):
        await life.chance.choice(steps)()  # type: ignore[misc]
        await life.agree()
    await life.settle()
    assert life.told
