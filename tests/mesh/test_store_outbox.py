"""The outbox relay, on a real PostgreSQL and a fake bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.message import Message

from lares.store.v1.events_pb2 import CameraConfigured, EventChanged, MediaKept
from mesh.problems import Unavailable
from mesh.topics import CAMERAS, FEED, KEPT, Topic
from store_svc import outbox
from store_svc.camera_repository import CameraRepository
from store_svc.commit_signals import CommitSignal
from store_svc.outbox import OutboxRelay
from tests.support.facts import detected, photo, reported
from tests.support.recorded import Recorded, open_recorded
from tests.support.waiting import until


class FakeBus:
    """Keeps what was published. For topics in `without`, keeps half of a request and raises Unavailable."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.without: set[str] = set()

    async def publish(self, topic: Topic[Any], *messages: Any) -> None:
        await asyncio.sleep(0)
        if topic.name in self.without:
            self.published += messages[: len(messages) // 2]
            raise Unavailable("away", "BUS_UNAVAILABLE")
        self.published += messages

    @property
    def sequences(self) -> list[int]:
        return [message.sequence for message in self.published if isinstance(message, EventChanged)]

    def kept(self, camera: str = "front") -> list[str]:
        """Media ids, in order."""
        kept = [message.media for message in self.published if isinstance(message, MediaKept)]
        return [media.id for media in kept if media.camera_id == camera]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


@asynccontextmanager
async def relaying(store: Recorded, bus: FakeBus) -> AsyncIterator[None]:
    relay = OutboxRelay(store.database, bus, store.signals.feed)  # type: ignore[arg-type]
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pending(store: Recorded) -> int:
    ((count,),) = await store.rows(
        "SELECT h.sequence - p.sequence + (SELECT count(*) FROM camera_outbox)"
        " + (SELECT count(*) FROM kept_outbox) FROM feed_head h, feed_published p"
    )
    return int(count)


async def empty(store: Recorded) -> None:
    async with asyncio.timeout(90):
        while await pending(store):
            await asyncio.sleep(0.02)


async def test_publishes_the_backlog_and_new_changes_in_order(store: Recorded) -> None:
    bus = FakeBus()
    await store.detect(*(detected(n, n * 1000) for n in range(5)))
    async with relaying(store, bus):
        await empty(store)
        assert bus.sequences == [1, 2, 3, 4, 5]
        await store.detect(detected(9, 9000, camera="back"))
        await empty(store)
    assert bus.sequences == [1, 2, 3, 4, 5, 6]
    assert [each.camera.id for each in bus.published if isinstance(each, CameraConfigured)] == [
        "front",
        "back",
    ]
    bodies = await store.feed()
    assert [each for each in bus.published if isinstance(each, EventChanged)] == bodies


async def test_pages_through_a_backlog(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAGE", 3)
    bus = FakeBus()
    await store.detect(*(detected(n, n * 1000, camera=f"cam{n % 4}") for n in range(10)))
    async with relaying(store, bus):
        await empty(store)
    assert bus.sequences == list(range(1, 11))


async def test_a_change_wakes_the_relay(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(outbox, "KEPT_SECONDS", 0.0)
    bus = FakeBus()
    async with relaying(store, bus):
        await store.detect(detected(1, 0))
        await empty(store)
        await store.detect(detected(2, 1000))
        await empty(store)
    assert bus.sequences == [1, 2]


async def test_without_other_processes_everything_is_published_all_the_same(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox is hardly polled then. A photo without an event has no change to wake the relay."""
    monkeypatch.setattr("store_svc.commit_signals.ALONE_SECONDS", 3600.0)
    store.signals.feed = CommitSignal(alone=True)
    bus, cameras = FakeBus(), CameraRepository(store.database, store.signals, lambda: store.now)
    async with relaying(store, bus):
        await empty(store)
        # Each has a change; the second comes before kept media may be published again.
        await store.detect(reported(0, 0, ("person", 0.7)))
        await until(lambda: bus.sequences == [1])
        await store.detect(reported(1, 1, ("person", 0.7)))
        await until(lambda: bus.sequences == [1, 2])
        await until(lambda: bus.kept() == [photo(n) for n in range(2)])
        for n in range(2, 6):  # while the ones before wait for their time, and after it
            await store.detect(reported(n, n * 1000))
            await asyncio.sleep(0 if n < 4 else 1.0)
        await until(lambda: bus.kept() == [photo(n) for n in range(6)])
        await cameras.update("front", {"enabled": False})
        await until(lambda: [type(each) for each in bus.published].count(CameraConfigured) == 2)
    assert bus.sequences == [1, 2]


async def test_another_process_change_is_seen_by_polling(store: Recorded) -> None:
    bus = FakeBus()
    async with relaying(store, bus):
        await empty(store)
        await Recorded(store.database).detect(detected(1, 0))
        await empty(store)
    assert bus.sequences == [1]


@pytest.mark.parametrize("topics", [{FEED.name}, {CAMERAS.name}, {FEED.name, CAMERAS.name}, {KEPT.name}])
async def test_continues_after_the_bus_was_unavailable_and_omits_nothing(
    store: Recorded, topics: set[str]
) -> None:
    bus = FakeBus()
    bus.without = topics
    cameras = CameraRepository(store.database, store.signals, lambda: store.now)
    await store.detect(*(detected(n, n * 1000) for n in range(6)))
    await cameras.update("front", {"enabled": False})
    async with relaying(store, bus):
        async with asyncio.timeout(90):
            while len(bus.published) < 2:
                await asyncio.sleep(0.02)
        ((entries, cameras_left),) = await store.rows(
            "SELECT h.sequence - p.sequence, (SELECT count(*) FROM camera_outbox)"
            " FROM feed_head h, feed_published p"
        )
        assert entries == 6 or FEED.name not in topics
        assert cameras_left == 2 or CAMERAS.name not in topics
        ((kept,),) = await store.rows("SELECT count(*) FROM kept_outbox")
        assert kept == 6 or KEPT.name not in topics
        bus.without = set()
        await empty(store)
    assert bus.sequences[-6:] == [1, 2, 3, 4, 5, 6]
    assert bus.kept()[-6:] == [photo(n) for n in range(6)]
    latest = [each for each in bus.published if isinstance(each, CameraConfigured)][-1]
    assert (latest.revision, latest.camera.enabled) == (2, False)


async def test_one_relay_works_and_another_takes_over(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STANDBY_SECONDS", 0.05)
    first, second = FakeBus(), FakeBus()
    async with relaying(store, second):
        async with relaying(store, first):
            for n in range(20):
                await store.detect(detected(n, n * 1000))
            await empty(store)
            assert sorted(map(len, (first.sequences, second.sequences))) == [0, 20]
        await store.detect(detected(50, 50_000))
        await empty(store)
    assert sorted(first.sequences + second.sequences) == list(range(1, 22))


async def test_a_relay_that_loses_its_lock_stops_at_once(store: Recorded) -> None:
    """Its connection is killed, and it takes the lock again before it publishes again."""
    bus = FakeBus()
    async with relaying(store, bus):
        await store.detect(detected(1, 0))
        await empty(store)
        await store.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1",
            outbox.LOCK,
        )
        await store.detect(detected(2, 1000))
        await empty(store)
    assert bus.sequences == [1, 2]


async def test_kept_media_are_published_in_the_order_of_their_camera(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE", 3)
    bus = FakeBus()
    for n in range(0, 20, 2):
        await store.detect(reported(n, n, ("person", 0.7)), reported(n, n, camera="back"), reported(n + 1, n))
    async with relaying(store, bus):
        await empty(store)
    assert bus.kept() == [photo(n) for n in range(20)]
    assert bus.kept("back") == [photo(n, "back") for n in range(0, 20, 2)]


async def test_kept_media_of_a_period_share_a_request(
    store: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "KEPT_SECONDS", 0.5)
    requests: list[int] = []

    class Counting(FakeBus):
        async def publish(self, topic: Topic[Any], *messages: Any) -> None:
            await super().publish(topic, *messages)
            if topic is KEPT:
                requests.append(len(messages))

    bus = Counting()
    async with relaying(store, bus):
        for n in range(10):
            await store.detect(reported(n, n * 1000, ("person", 0.7)))
            async with asyncio.timeout(90):
                while len(bus.sequences) <= n:  # each wakes the relay
                    await asyncio.sleep(0.001)
        await empty(store)
    assert sum(requests) == 10
    assert len(requests) <= 5


@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_a_relay_that_dies_loses_no_kept_media(store: Recorded, moment: str) -> None:
    """It is killed around its request. The next relay publishes again what is still in the outbox."""

    class Deadly(FakeBus):
        async def publish(self, topic: Topic[Any], *messages: Any) -> None:
            if topic is not KEPT:
                return
            count = {"before": 0, "within": len(messages) // 2, "after": len(messages)}[moment]
            self.published += messages[:count]
            raise asyncio.CancelledError  # as at the end of the process, no code runs afterwards

    dying, next_bus = Deadly(), FakeBus()
    await store.detect(*(reported(n, n * 1000, ("person", 0.7)) for n in range(6)))
    relay = OutboxRelay(store.database, dying, store.signals.feed)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await relay.run()
    async with relaying(store, next_bus):
        await empty(store)
    assert next_bus.kept() == [photo(n) for n in range(6)]
    assert dying.kept() == [photo(n) for n in range({"before": 0, "within": 3, "after": 6}[moment])]
