"""Recording that is interrupted, and recording in any order, on a real PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.problems import Unavailable
from store_svc.database import open_database
from store_svc.recording import camera_locks, media_detected
from store_svc.recording.media_record import read_media
from tests.support.facts import detected, found, opened_by
from tests.support.parts import MIGRATED, fresh_database
from tests.support.recorded import Recorded, open_recorded, sequences

EVERYTHING = ("media", "files", "detections", "events", "feed", "cameras", "camera_outbox")


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


class TestInterruption:
    async def test_before_the_commit_leaves_nothing(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.detect(detected(1, 0))
        before = await store.counts(*EVERYTHING)
        write = store.recorder.write

        async def killed(connection: asyncpg.Connection, items: Sequence[object]) -> None:
            await write(connection, items)  # type: ignore[arg-type]
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(store.recorder, "write", killed)
            with pytest.raises(asyncio.CancelledError):
                await store.detect(detected(2, 10), detected(3, 100, camera="back"))
        assert await store.counts(*EVERYTHING) == before
        assert await store.next_offsets() == [1]
        await store.detect(detected(2, 10), detected(3, 100, camera="back"), first=1)
        assert sequences(await store.feed()) == [1, 2, 3]
        assert await store.next_offsets() == [3]

    async def test_after_the_commit_does_nothing_twice(
        self, store: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The response to COMMIT is lost. The retry finds by the offsets that the batch was recorded."""
        transaction = store.database.transaction
        lost = iter([True])

        async def answer_lost(work: object) -> object:
            effect: object = await transaction(work)  # type: ignore[arg-type]
            if next(lost, False):
                raise Unavailable("gone", "DATABASE_UNAVAILABLE")
            return effect

        monkeypatch.setattr(store.database, "transaction", answer_lost)
        await store.detect(detected(1, 0), detected(2, 10))
        assert store.detections.sought == {0: 2}
        await store.detect(detected(3, 20))
        assert await store.members() == {opened_by(1): sorted([found(1), found(2), found(3)])}
        assert sequences(await store.feed()) == [1, 2]

    async def test_by_the_server_is_retried(self, store: Recorded) -> None:
        """The backend is killed during the transaction; the retry writes the batch."""
        write = store.recorder.write
        kills = iter([True])

        async def cut(connection: asyncpg.Connection, items: Sequence[object]) -> object:
            effect = await write(connection, items)  # type: ignore[arg-type]
            if next(kills, False):
                await store.rows("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            return effect

        store.recorder.write = cut  # type: ignore[method-assign, assignment]
        await store.detect(detected(1, 0))
        assert next(kills, None) is None
        assert await store.counts("media", "feed") == [1, 1]


class TestOrder:
    async def test_batches_do_not_change_the_result(self, postgres_server: str) -> None:
        """Live, as a backlog and in random batches: the same events, detections and digests."""
        chance = random.Random(5)
        times = sorted(chance.uniform(0, 600) for _ in range(60))
        for late in (20, 35, 50):
            times.append(times.pop(late - 10))
        log = [detected(n, seconds, labels=["person"] * (n % 4)) for n, seconds in enumerate(times)]
        results = []
        for sizes in ([1], [60], [7, 1, 13, 2]):
            async with AsyncExitStack() as stack:
                url = await stack.enter_async_context(fresh_database(postgres_server, MIGRATED))
                store = await stack.enter_async_context(open_recorded(url))
                results.append(await self._record(store, log, sizes))
        assert results[0] == results[1] == results[2]
        assert len(results[0]) > 5

    @staticmethod
    async def _record(
        store: Recorded, log: list[MediaDetected], sizes: list[int]
    ) -> list[tuple[object, ...]]:
        first = 0
        for n in range(len(log)):
            batch = log[first : first + sizes[n % len(sizes)]]
            if batch:
                await store.detect(*batch)
            first += len(batch)
        rows = await store.rows(
            "SELECT id, started_at, ended_at, labels, detection_count, media_count, evidence_digest,"
            " frozen_digest,"
            " (SELECT array_agg(d.id ORDER BY d.number) FROM detections d WHERE event_id = e.id),"
            " scene, body, camera_revision"
            " FROM events e JOIN event_evidence ON event_id = id ORDER BY id"
        )
        return [tuple(row) for row in rows]

    async def test_sequences_are_in_commit_order_without_gaps(self, postgres_url: str) -> None:
        """With many transactions at once, some of which roll back, no reader ever sees a gap."""
        async with open_recorded(postgres_url) as one, open_database(postgres_url) as database:
            stores = [Recorded(one.database if n % 2 else database) for n in range(8)]
            work = [asyncio.create_task(self._write(store, n)) for n, store in enumerate(stores)]
            looks = 0
            while not all(task.done() for task in work):
                ((count, least, most),) = await one.rows(
                    "SELECT count(*), min(sequence), max(sequence) FROM feed"
                )
                assert count == 0 or (least, most) == (1, count)
                looks += 1
            await asyncio.gather(*work)
            assert looks > 5
            assert sequences(await one.feed()) == list(range(1, 8 * 10 + 1))

    @staticmethod
    async def _write(store: Recorded, partition: int) -> None:
        """Ten events of one camera; every third transaction fails after it has taken a sequence."""
        write = store.recorder.write
        turns = iter(range(1000))

        async def sometimes(connection: asyncpg.Connection, items: Sequence[object]) -> object:
            effect = await write(connection, items)  # type: ignore[arg-type]
            if next(turns) % 3 == 1:
                raise Unavailable("no", "DATABASE_UNAVAILABLE")
            return effect

        store.recorder.write = sometimes  # type: ignore[method-assign, assignment]
        for n in range(10):
            await store.detect(detected(n, n * 1000, camera=f"cam{partition}"), partition=partition)

    async def test_two_processes_record_one_camera_in_turns(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A photo of one process joins the event that the other has opened."""
        begun, lock = asyncio.Barrier(2), camera_locks.lock_or_create_cameras

        async def together(*arguments: object) -> object:
            await begun.wait()
            return await lock(*arguments)  # type: ignore[arg-type]

        async with open_recorded(postgres_url) as one:
            two = Recorded(one.database)
            await one.detect(detected(100, -1000))
            monkeypatch.setattr(media_detected, "lock_or_create_cameras", together)
            for n in range(15):
                await asyncio.gather(
                    one.detect(detected(2 * n, n * 1000), partition=0),
                    two.detect(detected(2 * n + 1, n * 1000 + 5), partition=1),
                )
            assert await one.counts("media", "events") == [31, 16]
            rows = await one.rows("SELECT revision, detection_count FROM events ORDER BY started_at")
            assert [tuple(row) for row in rows] == [(1, 1)] + [(2, 2)] * 15

    async def test_two_processes_let_one_event_grow(self, postgres_url: str) -> None:
        """Neither takes the detections that it remembers for all: not after the other has added some, and not
        after a transaction of its own was rolled back."""

        async def roll_back(process: Recorded, message: MediaDetected) -> None:
            async def work(connection: asyncpg.Connection) -> None:
                await process.recorder.write(connection, [read_media(message, 0)])
                raise asyncio.CancelledError

            with pytest.raises(asyncio.CancelledError):
                await process.database.transaction(work)

        async with open_recorded(postgres_url) as one:
            processes = {0: one, 1: Recorded(one.database)}
            for n, partition in enumerate([0, 0, 1, 1, 0, 1, 0], 1):
                await roll_back(processes[partition], detected(100 + n, n))
                message = detected(n, n, labels=["person"] * (1 + n % 3))
                await processes[partition].detect(message, partition=partition)
                members = (await one.members())[opened_by(1)]
                event = await one.event(opened_by(1))
                assert event["evidence_digest"] == await one.digest(opened_by(1), *members)
            assert len(members) == 14

    async def test_new_cameras_in_opposite_orders_do_not_deadlock(self, postgres_url: str) -> None:
        """Two processes write the same unknown cameras in opposite orders, many times."""
        async with open_recorded(postgres_url) as one:
            two = Recorded(one.database)
            for n in range(10):
                names = [f"a{n}", f"b{n}", f"c{n}"]
                await asyncio.gather(
                    one.detect(*(detected(1, n, camera=name) for name in names), partition=0),
                    two.detect(*(detected(2, n, camera=name) for name in reversed(names)), partition=1),
                )
            assert await one.counts("cameras", "media", "events", "camera_outbox") == [30, 60, 30, 30]
            feed = sequences(await one.feed())
            assert feed == list(range(1, len(feed) + 1))
