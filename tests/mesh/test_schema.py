"""The schema at the start of a store, and `lares migrate`, on a real PostgreSQL."""

import asyncio

import asyncpg
import pytest

from mesh.config import load_config
from mesh.problems import Invalid, Unavailable
from store_svc import migration, schema
from store_svc.database.connector import Connector
from store_svc.migration import Revision, Schema, migrate, newest, read_schema, revisions
from store_svc.schema import APPLY, CONTRACT, PLAN, run_migrate, until_schema_fits
from tests.mesh.test_schema_changes import upgrade
from tests.support.database_proxies import fake_transaction_pooler, through

NEWER = str(int(newest()) + 1).zfill(4)


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def set_schema(url: str, revision: str, oldest_store: str | None) -> None:
    """As a version that knows newer revisions leaves the database."""
    comment = f"'{migration._COMMENT.format(oldest_store)}'" if oldest_store else "NULL"
    await execute(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    await execute(url, f"COMMENT ON TABLE alembic_version IS {comment}")


async def lines_of(url: str, action: str) -> list[str]:
    lines: list[str] = []
    await run_migrate(load_config(database_url=url), action, 0, lines.append)
    return lines


async def upgraded(url: str, revision: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await upgrade(connection, revision)
    await engine.dispose()


async def test_a_plan_changes_nothing(empty_postgres_url: str) -> None:
    await upgraded(empty_postgres_url, "0018")
    lines = await lines_of(empty_postgres_url, PLAN)
    assert lines[0] == "the database has the schema 0018; to be applied:"
    assert lines[1].startswith("  0019 (expand) What is made of media")
    assert len(lines) == 1 + len(revisions()) - 18
    assert (await read_schema(Connector(empty_postgres_url))).revision == "0018"


async def test_an_empty_database_gets_everything(empty_postgres_url: str) -> None:
    lines = await lines_of(empty_postgres_url, APPLY)
    assert lines[0] == "the database has the schema of no version; to be applied:"
    assert lines[-1] == f"the database has the schema {newest()}"
    assert await read_schema(Connector(empty_postgres_url)) == Schema(newest(), migration.FIRST_STORE)
    assert await lines_of(empty_postgres_url, APPLY) == [
        f"the database has the schema {newest()}, this version knows {newest()}",
        f"the database has the schema {newest()}",
    ]


def mark(monkeypatch: pytest.MonkeyPatch, contract: str, oldest_store: str) -> None:
    """From now on the revision `contract` is marked as one."""
    marked = [
        Revision(each.id, each.title, oldest_store if each.id == contract else each.oldest_store)
        for each in revisions()
    ]
    monkeypatch.setattr(migration, "revisions", lambda: marked)


async def test_a_contract_that_the_version_before_knows_of_is_applied(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgraded(empty_postgres_url, "0020")
    mark(monkeypatch, "0021", "0020")
    lines = await lines_of(empty_postgres_url, APPLY)
    assert lines[1].startswith("  0021 (contract, needs 0020)")
    assert await read_schema(Connector(empty_postgres_url)) == Schema(newest(), "0020")


async def test_a_contract_beyond_the_version_before_needs_a_word(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgraded(empty_postgres_url, "0018")
    mark(monkeypatch, "0021", "0020")
    with pytest.raises(Invalid, match="revision 0021 takes away what stores of revision 0018 use") as refused:
        await lines_of(empty_postgres_url, APPLY)
    assert refused.value.reason == "SCHEMA_CONTRACT"
    assert (await read_schema(Connector(empty_postgres_url))).revision == "0018"
    await lines_of(empty_postgres_url, CONTRACT)
    assert await read_schema(Connector(empty_postgres_url)) == Schema(newest(), "0020")


@pytest.mark.parametrize("oldest_store", [migration.FIRST_STORE, newest()])
async def test_a_store_of_the_version_before_works_on_a_newer_schema(
    postgres_url: str, oldest_store: str
) -> None:
    await set_schema(postgres_url, NEWER, oldest_store)
    await migrate(postgres_url)
    await until_schema_fits(Connector(postgres_url), lambda _: None)
    assert (await lines_of(postgres_url, APPLY))[-1] == f"the database has the schema {NEWER}"


@pytest.mark.parametrize("oldest_store", [NEWER, None])
async def test_but_not_on_one_that_takes_away_what_it_uses(
    postgres_url: str, oldest_store: str | None
) -> None:
    await set_schema(postgres_url, NEWER, oldest_store)
    for action in (lambda: migrate(postgres_url), lambda: lines_of(postgres_url, APPLY)):
        with pytest.raises(Unavailable, match=f"needs stores that know {NEWER}; this version") as refused:
            await action()
        assert refused.value.reason == "SCHEMA_TOO_NEW"


async def test_a_store_that_only_verifies_waits_until_the_schema_fits(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "POLL_SECONDS", 0.02)
    told: list[str] = []
    waiting = asyncio.create_task(until_schema_fits(Connector(empty_postgres_url), told.append))
    await until_told(told, "of no version, and this version needs")
    assert await read_schema(Connector(empty_postgres_url)) == Schema()
    await upgraded(empty_postgres_url, "0018")
    await until_told(told, "the schema 0018, and this version needs")
    await migrate(empty_postgres_url)
    await set_schema(empty_postgres_url, NEWER, NEWER)
    await until_told(told, f"needs stores that know {NEWER}")
    assert not waiting.done()
    await set_schema(empty_postgres_url, NEWER, newest())
    await asyncio.wait_for(waiting, 60)


async def until_told(told: list[str], words: str) -> None:
    async with asyncio.timeout(60):
        while not (told and words in told[-1]):
            await asyncio.sleep(0.01)


async def test_it_waits_for_a_database_that_is_away(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "POLL_SECONDS", 0.02)
    name = empty_postgres_url.partition("@/")[2].partition("?")[0]
    server = empty_postgres_url.replace(f"/{name}?", "/lares?")
    later = f"{name}_later"
    url = empty_postgres_url.replace(f"/{name}?", f"/{later}?")
    with pytest.raises(Unavailable, match=f'database "{later}" does not exist'):
        await lines_of(url, APPLY)
    try:
        waiting = asyncio.create_task(run_migrate(load_config(database_url=url), APPLY, 60, lambda _: None))
        await asyncio.sleep(0)
        await execute(server, f"CREATE DATABASE {later}")
        await waiting
        assert (await read_schema(Connector(url))).revision == newest()
    finally:
        await execute(server, f"DROP DATABASE {later} WITH (FORCE)")


async def test_a_pooler_of_transactions_is_not_migrated(empty_postgres_url: str) -> None:
    async with fake_transaction_pooler(empty_postgres_url, last_first=True) as port:
        with pytest.raises(Invalid) as refused:
            await lines_of(through(empty_postgres_url, port), APPLY)
        assert refused.value.reason == "TRANSACTION_POOLING"
    assert await read_schema(Connector(empty_postgres_url)) == Schema()
