"""Migrating the database, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_pb2 import Event
from lares.store.v1.event_service_pb2 import EventFilter
from lares.store.v1.events_pb2 import EventChanged
from mesh.problems import Invalid, Unavailable
from store_svc import migration
from store_svc.database import open_database
from store_svc.database.connector import Connector
from store_svc.database.tables import assessments, metadata
from store_svc.domain.job import ASSESS, REQUESTED, URGENT, Job, Request
from store_svc.event_repository import load_queued
from store_svc.migration import migrate, read_schema
from store_svc.queries.assessments import list_assessments
from store_svc.queries.events import get_event, list_events
from store_svc.queries.feed import list_changes
from store_svc.queries.raw_answers import get_raw_answer
from tests.support.database_proxies import SilentWay, through
from tests.support.store_rows import NOON, assessment_row, write


@pytest.fixture
async def engine(empty_postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(empty_postgres_url, poolclass=NullPool)
    yield engine
    await engine.dispose()


async def differences(engine: AsyncEngine) -> Any:
    """Returns the differences between the database and the tables in the code."""

    def compare(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with engine.connect() as connection:
        return await connection.run_sync(compare)


async def heads(engine: AsyncEngine) -> list[tuple[int, ...]]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT h.sequence, p.sequence FROM feed_head h, feed_published p")
        )
        return [tuple(row) for row in rows]


async def test_an_empty_database_gets_the_tables_in_code(
    empty_postgres_url: str, engine: AsyncEngine
) -> None:
    await migrate(empty_postgres_url)
    assert await differences(engine) == []
    assert await heads(engine) == [(0, 0)]


async def test_an_up_to_date_database_is_unchanged(empty_postgres_url: str, engine: AsyncEngine) -> None:
    await migrate(empty_postgres_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE feed_head SET sequence = 7"))
    await migrate(empty_postgres_url)
    assert await differences(engine) == []
    assert await heads(engine) == [(7, 0)]


async def test_several_may_start_at_once(empty_postgres_url: str, engine: AsyncEngine) -> None:
    await asyncio.gather(*(migrate(empty_postgres_url) for _ in range(4)))
    assert await differences(engine) == []
    assert await heads(engine) == [(0, 0)]


async def test_a_process_that_starts_during_a_migration_waits_without_a_limit(
    empty_postgres_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Mock()
    monkeypatch.setattr(migration, "log", log)
    monkeypatch.setattr(migration, "LOCK_SECONDS", 0.1)
    async with engine.begin() as other:
        await other.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": migration.LOCK})
        waiting = asyncio.create_task(migrate(empty_postgres_url))
        await until_one_waits_for_a_lock(engine)
        log.info.assert_called_once_with("waiting for another process that migrates the database")
        # A session that has the limit, and begins to wait later, gives up.
        with pytest.raises(DBAPIError, match="lock timeout"):
            async with engine.begin() as limited:
                await limited.execute(text("SET LOCAL lock_timeout = '0.3s'"))
                await limited.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": migration.LOCK})
        assert not waiting.done()
    await waiting
    assert await differences(engine) == []


async def test_a_database_that_falls_silent_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stopped just after it has taken a connection."""
    monkeypatch.setattr(migration, "READ_SECONDS", 0.5)
    way = SilentWay(postgres_url)
    connect = Connector.connect

    async def connect_then_silence(connector: Connector, **options: Any) -> Any:
        connection = await connect(connector, **options)
        way.fall_silent()
        return connection

    monkeypatch.setattr(Connector, "connect", connect_then_silence)
    async with way.listening() as port:
        with pytest.raises(Unavailable):
            async with asyncio.timeout(20):
                await read_schema(Connector(through(postgres_url, port)))


async def until_one_waits_for_a_lock(engine: AsyncEngine) -> None:
    waits = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with engine.connect() as connection, asyncio.timeout(90):
        while not await connection.scalar(waits):
            await connection.rollback()  # within a transaction the view does not change
            await asyncio.sleep(0.02)


async def test_a_migration_that_is_killed_leaves_the_schema_unchanged(
    empty_postgres_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start finds an empty database."""
    upgrade = migration._upgrade

    def dies(connection: Connection, contract: bool) -> None:
        upgrade(connection, contract)
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with monkeypatch.context() as patch:
        patch.setattr(migration, "_upgrade", dies)
        with pytest.raises((Unavailable, DBAPIError)):
            await migrate(empty_postgres_url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT to_regclass('events')"))).scalar() is None
    await migrate(empty_postgres_url)
    assert await differences(engine) == []


async def test_does_not_block_the_event_loop(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alembic runs in a thread."""
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    upgrade = migration._upgrade

    def watched(connection: Connection, contract: bool) -> None:
        asyncio.run_coroutine_threadsafe(turn(), loop).result(timeout=90)
        upgrade(connection, contract)

    async def turn() -> None:
        turned.set()

    monkeypatch.setattr(migration, "_upgrade", watched)
    await migrate(empty_postgres_url)
    assert turned.is_set()


async def test_a_database_of_the_first_version_keeps_its_data(
    empty_postgres_url: str, engine: AsyncEngine
) -> None:
    """Events in the queue, and assessments that are numbered in the order of their times."""
    await upgrade(engine, "0001")
    async with engine.begin() as connection:
        await connection.execute(text(EVENT_OF_0001), {"id": EVENT, "assessment": UUID(int=1)})
        for id, minute in ((3, 0), (1, 2), (2, 1)):
            values = {"id": UUID(int=id), "event": EVENT, "at": NOON + timedelta(minutes=minute)}
            await connection.execute(text(ASSESSMENT_OF_0001), values | {"body": b"1"})
        for id, minute in ((21, 0), (22, 2), (23, 1)):
            values = {"id": UUID(int=id), "event": EVENT, "at": NOON + timedelta(minutes=minute)}
            await connection.execute(text(FAILURE_OF_0001), values)
    await migrate(empty_postgres_url)
    assert await differences(engine) == []
    async with open_database(empty_postgres_url) as database:
        queued = (await database.transaction(lambda connection: load_queued(connection, [EVENT])))[EVENT]
        event, job = queued.event, queued.job
        assert job is not None
        assert (job.due_at, job.attempts, job.request, event.assessment) == (DUE, 2, None, b"1")
        assert job.waiting_since == NOON  # its last detection, as the time was not recorded
        assert event.failure_id == UUID(int=22)
        assert event.zones == frozenset()
        await write(database, assessments, assessment_row(UUID(int=4), EVENT, 1))
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT id, request_id FROM assessments ORDER BY number"))
        assert rows.all() == [(UUID(int=id), None) for id in (3, 2, 1, 4)]
        rows = await connection.execute(text("SELECT id FROM assessment_failures"))
        assert rows.all() == [(UUID(int=22),)]


async def test_raw_answers_move_to_a_table_of_their_own(empty_postgres_url: str, engine: AsyncEngine) -> None:
    """More rows than one portion. The last one has a raw answer as earlier versions wrote it."""
    await upgrade(engine, "0001")
    raw_answer = "a man at the door\0" * 400
    others = 600
    old = Assessment(id=str(UUID(int=1)), event_id=str(EVENT), score=40, summary="A man.", model="m")
    event = Event(id=str(EVENT), camera_id="front", sequence=4, assessment=old)
    for assessment in (old, event.assessment):
        assessment.raw_answer = raw_answer
        assessment.MergeFromString(UNKNOWN)
    entry = EventChanged(sequence=others, event=event).SerializeToString()
    async with engine.begin() as connection:
        await connection.execute(text(EVENT_OF_0001), {"id": EVENT, "assessment": UUID(int=1)})
        await connection.execute(text("UPDATE events SET sequence = :n"), {"n": others})
        await connection.execute(text("UPDATE feed_head SET sequence = :n"), {"n": others})
        row = {"event": EVENT, "at": NOON}
        plain = [row | {"id": UUID(int=n), "body": b""} for n in range(2, others)]
        await connection.execute(text(ASSESSMENT_OF_0001), plain)
        last = row | {"id": UUID(int=others), "body": old.SerializeToString()}
        await connection.execute(text(ASSESSMENT_OF_0001), last | {"id": UUID(int=1)})
        await connection.execute(text(ASSESSMENT_OF_0001), last)
        entries = [row | {"n": n, "body": b"", "severity": 2} for n in range(1, others)]
        await connection.execute(
            text(ENTRY_OF_0001), [*entries, row | {"n": others, "body": entry, "severity": 2}]
        )
    await migrate(empty_postgres_url)
    assert await differences(engine) == []
    async with engine.connect() as connection:
        moved = (await connection.execute(text("SELECT * FROM raw_answers ORDER BY assessment_id"))).all()
    assert moved == [(UUID(int=n), raw_answer.encode()) for n in (1, others)]
    async with open_database(empty_postgres_url) as database:
        assert await get_raw_answer(database, str(UUID(int=1))) == raw_answer
        (listed,) = (await list_events(database, EventFilter(), 50, "")).events
        one = await get_event(database, str(EVENT))
        history = (await list_assessments(database, str(EVENT), 100, "")).assessments
        changes, _ = await list_changes(database, others - 1, 10)
    messages = [listed.assessment, one.assessment, history[0], changes[0].event.assessment]
    for assessment in messages:
        assert (assessment.summary, assessment.raw_answer, assessment.ByteSize()) == (
            "A man.",
            "",
            SIZE_WITHOUT_RAW_ANSWER,
        )
        assert b"alien" not in assessment.SerializeToString()
    await downgrade_to_before_raw_answers(engine)
    async with engine.connect() as connection:
        body = (
            await connection.execute(text("SELECT body FROM assessments WHERE id = :id"), {"id": UUID(int=1)})
        ).scalar()
    assert Assessment.FromString(body or b"").raw_answer == raw_answer


async def downgrade_to_before_raw_answers(engine: AsyncEngine) -> None:
    def work(connection: Connection) -> None:
        config = migration.alembic_config()
        config.attributes["connection"] = connection
        of_raw_answers = ScriptDirectory.from_config(config).get_revision("0004")
        assert isinstance(of_raw_answers.down_revision, str)
        command.downgrade(config, of_raw_answers.down_revision)

    async with engine.begin() as connection:
        await connection.run_sync(work)


WAITING_EVENTS: dict[str, dict[str, Any]] = {
    "due": {},
    "urgent": {"priority": URGENT, "urgent_done": True, "closed": False},
    "leased": {"lease_id": UUID(int=31), "leased_until": NOON + timedelta(seconds=60)},
    "failed": {"status": 3, "attempts": 4, "due_at": NOON + timedelta(seconds=8), "failure_id": UUID(int=41)},
    "hastened": {"status": 3, "attempts": 9, "hastened": True},
    "requested": {
        "status": 2,
        "assessed_digest": "digest",
        "priority": REQUESTED,
        "request_id": UUID(int=51),
        "request_model": "m" * 256,
        "request_prompt": "v2",
    },
    "requested with the configured model": {
        "request_id": UUID(int=52),
        "request_model": "",
        "request_prompt": "",
    },
}
EXPECTED_JOBS: dict[str, dict[str, Any]] = {
    "due": {},
    "urgent": {"priority": URGENT},
    "leased": {"lease_id": UUID(int=31), "leased_until": NOON + timedelta(seconds=60)},
    "failed": {"failed": True, "attempts": 4, "due_at": NOON + timedelta(seconds=8)},
    "hastened": {"failed": True, "attempts": 9, "hastened": True},
    "requested": {"priority": REQUESTED, "request": Request(UUID(int=51), "m" * 256, "v2")},
    "requested with the configured model": {"request": Request(UUID(int=52))},
}
EVENTS_WITHOUT_JOB: tuple[dict[str, Any], ...] = (
    {"status": 2, "assessed_digest": "digest"},
    {"closed": False},
    {"failure_id": UUID(int=42), "status": 2, "assessed_digest": "digest"},  # a request was given up
)


async def test_waiting_events_become_jobs_and_back(empty_postgres_url: str, engine: AsyncEngine) -> None:
    await upgrade(engine, "0003")
    ids = {name: UUID(int=100 + n) for n, name in enumerate(WAITING_EVENTS)}
    without_job = [UUID(int=200 + n) for n, _ in enumerate(EVENTS_WITHOUT_JOB)]
    async with engine.begin() as connection:
        for name, changes in WAITING_EVENTS.items():
            await put_event_of_0003(connection, ids[name], {"due_at": NOON, "waiting_since": SINCE} | changes)
        for id, changes in zip(without_job, EVENTS_WITHOUT_JOB, strict=True):
            await put_event_of_0003(connection, id, changes)
        before = (await connection.execute(text(EVENTS_OF_0003))).all()
    await migrate(empty_postgres_url)
    assert await differences(engine) == []
    async with open_database(empty_postgres_url) as database:
        queue = await database.transaction(
            lambda connection: load_queued(connection, [*ids.values(), *without_job])
        )
    jobs = {id: queued.job for id, queued in queue.items() if queued.job}
    began = NOON - timedelta(minutes=1)
    plain = {id: Job(ASSESS, id, "front", began, NOON, SINCE, input_digest="digest") for id in ids.values()}
    assert jobs == {
        ids[name]: replace(plain[ids[name]], **changes) for name, changes in EXPECTED_JOBS.items()
    }
    async with engine.connect() as connection:
        failures = (await connection.execute(text("SELECT id, failure_id FROM events ORDER BY id"))).all()
    assert failures == [(row.id, row.failure_id) for row in before]
    await upgrade(engine, "0003", down=True)
    async with engine.connect() as connection:
        assert (await connection.execute(text(EVENTS_OF_0003))).all() == before


async def put_event_of_0003(connection: AsyncConnection, id: UUID, changes: dict[str, Any]) -> None:
    row = {
        "id": id,
        "camera_id": "front",
        "partition": 0,
        "status": 1,
        "revision": 4,
        "sequence": 4,
        "started_at": NOON - timedelta(minutes=1),
        "ended_at": NOON,
        "closed": True,
        "labels": ["person"],
        "detection_count": 1,
        "media_count": 1,
        "last_recorded_at": NOON,
        "time_zone": "UTC",
        "evidence_digest": "digest",
        "evidence_revision": 3,
        "assessed_revision": 0,
        "urgent_done": False,
        "priority": 0,
        "attempts": 0,
    } | changes
    columns = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(f":{name}" for name in row)
    await connection.execute(text(f"INSERT INTO events (history, {columns}) VALUES ('[]', {values})"), row)


SINCE = NOON - timedelta(minutes=7)
EVENTS_OF_0003 = """
    SELECT id, due_at, waiting_since, priority, attempts, hastened, failure_id, lease_id, leased_until,
        request_id, request_model, request_prompt, urgent_done, status
    FROM events ORDER BY id
"""


async def upgrade(engine: AsyncEngine, revision: str, *, down: bool = False) -> None:
    def work(connection: Connection) -> None:
        config = migration.alembic_config()
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(work)


EVENT = UUID(int=9)
# A field that no contract ever had: number 999, 5 bytes.
UNKNOWN = b"\xba\x3e\x05alien"
# The bytes of two ids, a summary, a model and a score.
SIZE_WITHOUT_RAW_ANSWER = 38 + 38 + 8 + 3 + 2
ENTRY_OF_0001 = """
    INSERT INTO feed (sequence, event_id, camera_id, status, severity, deleted, body, recorded_at)
    VALUES (:n, :event, 'front', 2, :severity, false, :body, :at)
"""
DUE = NOON + timedelta(minutes=5)
EVENT_OF_0001 = """
    INSERT INTO events (id, camera_id, partition, status, revision, sequence, started_at, ended_at, closed,
        labels, detection_count, media_count, last_recorded_at, history, time_zone, evidence_digest,
        evidence_revision, assessment_id, assessed_digest, assessed_revision, severity, due_at, urgent_done,
        priority, attempts)
    VALUES (:id, 'front', 0, 3, 4, 4, '2026-06-01T12:00Z', '2026-06-01T12:00Z', true, '{person}', 1, 1,
        '2026-06-01T12:00Z', '[]', 'UTC', 'digest', 3, :assessment, 'older', 1, 2, '2026-06-01T12:05Z', true,
        1, 2)
"""
ASSESSMENT_OF_0001 = """
    INSERT INTO assessments (id, event_id, evidence_revision, evidence_digest, score, severity, body,
        assessed_at, recorded_at)
    VALUES (:id, :event, 1, 'older', 40, 2, :body, :at, :at)
"""
FAILURE_OF_0001 = """
    INSERT INTO judgement_failures (id, event_id, evidence_revision, evidence_digest, reason, detail,
        failed_at, recorded_at)
    VALUES (:id, :event, 1, 'older', 'BAD_ANSWER', 'no JSON', :at, :at)
"""


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://me:hunter2@h:port/db", "postgresql+asyncpg:me:hunter2@"]
)
async def test_an_invalid_url_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(Invalid, match="LARES_DATABASE_URL") as refused:
        await migrate(url)
    assert "hunter2" not in refused.value.message


async def test_an_unknown_parameter_is_reported(empty_postgres_url: str) -> None:
    url = make_url(empty_postgres_url).update_query_dict({"colour": "red"})
    with pytest.raises(Invalid, match=r"LARES_DATABASE_URL: an option is unknown; there are .*sslmode"):
        await migrate(url.render_as_string(hide_password=False))


async def test_a_missing_database_is_reported(empty_postgres_url: str) -> None:
    url = make_url(empty_postgres_url).set(database="nowhere")
    with pytest.raises(Unavailable, match='database "nowhere" does not exist'):
        await migrate(url.render_as_string(hide_password=False))
