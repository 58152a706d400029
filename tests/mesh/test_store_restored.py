"""`lares migrate restored`, on a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from lares.store.v1.events_pb2 import CameraConfigured
from mesh.config import load_config
from mesh.problems import Conflict
from store_svc.camera_repository import CameraRepository
from store_svc.database.connector import Connector
from store_svc.offsets import Move, Offsets
from store_svc.outbox import LOCK
from store_svc.queries.counts import count
from store_svc.queries.feed import list_changes
from store_svc.restored import LOST_SEQUENCES, prepare_restored
from store_svc.schema import RESTORED, run_migrate
from tests.support.database_connection import connected
from tests.support.facts import reported
from tests.support.recorded import Recorded, open_recorded

PERSON = ("person", 0.9)
TOPIC = "detect.detections.v1"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    """With an event of a camera that was configured, as in a backup."""
    async with open_recorded(postgres_url) as recorded:
        cameras = CameraRepository(recorded.database, recorded.signals, lambda: recorded.now)
        await cameras.create("front", "Front", "Europe/Berlin", True, {})
        await recorded.detect(reported(1, 0, PERSON))
        yield recorded


async def prepare(postgres_url: str, *, new_topics: bool = True) -> None:
    await prepare_restored(Connector(postgres_url), new_topics=new_topics)


async def outbox(postgres_url: str) -> list[CameraConfigured]:
    async with connected(postgres_url) as connection:
        rows = await connection.fetch("SELECT body FROM camera_outbox ORDER BY id")
    return [CameraConfigured.FromString(row["body"]) for row in rows]


async def test_cameras_are_published_again(store: Recorded, postgres_url: str) -> None:
    before = await outbox(postgres_url)
    await prepare(postgres_url)
    assert (await outbox(postgres_url))[len(before) :] == before[-1:]


async def test_nothing_counts_as_unpublished_but_cameras(store: Recorded, postgres_url: str) -> None:
    await prepare(postgres_url)
    status = await count(store.database, store.now)
    kept = 1
    assert status.outbox == len(await outbox(postgres_url)) + kept


async def test_cursors_of_lost_changes_are_refused_for_ever(store: Recorded, postgres_url: str) -> None:
    (*_, last), head = await list_changes(store.database, 0, 10)
    assert last.sequence == head
    await prepare(postgres_url)
    assert await list_changes(store.database, head, 10) == ([], head + LOST_SEQUENCES)
    for _ in range(2):
        for lost in (head + 1, head + 7, head + LOST_SEQUENCES - 1):
            with pytest.raises(Conflict, match="lost") as refused:
                await list_changes(store.database, lost, 10)
            assert refused.value.reason == "CURSOR_EXPIRED"
        await store.detect(reported(2, 500, PERSON))  # now the feed has gone on
    for cursor in (head, head + LOST_SEQUENCES):
        changes, _ = await list_changes(store.database, cursor, 10)
        assert changes[0].sequence == head + LOST_SEQUENCES + 1


@pytest.mark.parametrize("new_topics", [True, False])
async def test_offsets_are_forgotten_with_the_topics(
    store: Recorded, postgres_url: str, new_topics: bool
) -> None:
    offsets = Offsets(store.database, "other")
    moves = [Move(0, 0, 3)]
    await store.database.transaction(lambda connection: offsets.advance(connection, TOPIC, "topic-1", moves))
    await prepare(postgres_url, new_topics=new_topics)
    if new_topics:
        assert await offsets.load(TOPIC, "topic-2", [0]) == {}
    else:
        assert await offsets.load(TOPIC, "topic-1", [0]) == {0: 3}


async def test_not_while_a_store_runs(store: Recorded, postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute(f"SELECT pg_advisory_lock({LOCK})")
        with pytest.raises(Conflict) as refused:
            await prepare(postgres_url)
    assert refused.value.reason == "STORE_RUNS"


async def test_the_command_says_what_it_did(postgres_url: str) -> None:
    lines: list[str] = []
    config = load_config(database_url=postgres_url)
    await run_migrate(config, RESTORED, 0, lines.append, new_topics=True)
    assert lines[-1] == "the restored database can be used: the topics are read from their beginning"
