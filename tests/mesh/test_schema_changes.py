"""Every migration that takes something away from older stores says so (CONTRIBUTING.md, "A table")."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from store_svc.migration import FIRST_STORE, alembic_config, revisions
from tests.support.schema_changes import read_tables, taken_away


@pytest.fixture
async def connection(empty_postgres_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(empty_postgres_url, poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection
    await engine.dispose()


async def upgrade(connection: AsyncConnection, revision: str) -> None:
    def work(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    await connection.run_sync(work)


async def test_a_revision_that_takes_something_away_is_marked_as_a_contract(
    connection: AsyncConnection,
) -> None:
    """And one that is marked names a revision before it, so that there is a version with which it works."""
    await upgrade(connection, FIRST_STORE)
    before = await read_tables(connection)
    for revision in revisions():
        if revision.id <= FIRST_STORE:
            continue
        await upgrade(connection, revision.id)
        after = await read_tables(connection)
        lines = taken_away(before, after)
        if revision.oldest_store is None:
            assert lines == [], f"{revision.id} needs OLDEST_STORE, or must leave this to a later revision"
        else:
            assert FIRST_STORE < revision.oldest_store < revision.id
        before = after


TABLES = """
    CREATE TABLE pots (id int PRIMARY KEY, label text NOT NULL DEFAULT 'pot', coins int, UNIQUE (label));
    CREATE UNIQUE INDEX few_coins ON pots (coins) WHERE coins < 3
"""


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("DROP TABLE pots", "table pots is gone"),
        ("ALTER TABLE pots RENAME TO cans", "table pots is gone"),
        ("ALTER TABLE pots DROP coins", "pots.coins is gone"),
        ("ALTER TABLE pots RENAME coins TO cash", "pots.coins is gone"),
        ("ALTER TABLE pots ALTER coins TYPE bigint", "pots.coins is bigint instead of integer"),
        ("ALTER TABLE pots ALTER coins SET NOT NULL", "pots.coins must not be null any more"),
        ("ALTER TABLE pots ALTER label DROP DEFAULT", "pots.label has no default any more"),
        ("ALTER TABLE pots ADD lid int NOT NULL", "pots.lid must not be null and has no default"),
        (
            "ALTER TABLE pots ADD lid int NOT NULL DEFAULT 0; ALTER TABLE pots ALTER lid DROP DEFAULT",
            "pots.lid must not be null and has no default",
        ),
        ("ALTER TABLE pots ADD CHECK (coins > 0)", "pots: CHECK ((coins > 0)) is new"),
        ("ALTER TABLE pots DROP CONSTRAINT pots_label_key", "pots: UNIQUE (label) is gone"),
        ("ALTER TABLE pots ADD FOREIGN KEY (coins) REFERENCES pots", "FOREIGN KEY"),
        ("CREATE UNIQUE INDEX more ON pots (coins)", "pots: UNIQUE INDEX btree (coins) is new"),
        ("DROP INDEX few_coins", "pots: UNIQUE INDEX btree (coins) WHERE (coins < 3) is gone"),
        (
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            " CREATE TRIGGER no BEFORE INSERT ON pots FOR EACH ROW EXECUTE FUNCTION no()",
            "pots: TRIGGER no is new",
        ),
    ],
)
async def test_what_takes_something_away_is_found(
    connection: AsyncConnection, statement: str, line: str
) -> None:
    lines = await lines_of(connection, statement)
    assert any(line in found for found in lines), lines


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE pots ADD lid int",
        "ALTER TABLE pots ADD lid int NOT NULL DEFAULT 0",
        "ALTER TABLE pots ADD lid int GENERATED ALWAYS AS (coins + 1) STORED",
        "ALTER TABLE pots ALTER label DROP NOT NULL",
        "CREATE INDEX third ON pots (coins)",
        "ALTER INDEX few_coins RENAME TO third",
        "CREATE TABLE cans (id int PRIMARY KEY, pot int NOT NULL REFERENCES pots, UNIQUE (pot))",
        "UPDATE pots SET coins = 1",
    ],
)
async def test_what_adds_something_is_not(connection: AsyncConnection, statement: str) -> None:
    assert await lines_of(connection, statement) == []


async def lines_of(connection: AsyncConnection, statements: str) -> list[str]:
    raw: Any = (await connection.get_raw_connection()).driver_connection
    await raw.execute(TABLES)
    before = await read_tables(connection)
    await raw.execute(statements)
    return taken_away(before, await read_tables(connection))
