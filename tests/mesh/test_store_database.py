"""Transactions that are tried again, and database errors as Problems, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.problems import Exhausted, Invalid, Unavailable
from store_svc import database as database_module
from store_svc.database import Database, open_database


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_database(postgres_url) as database:
        async with database.session() as connection:
            await connection.execute(
                "CREATE TABLE pots (id int PRIMARY KEY, coins int NOT NULL CHECK (coins >= 0))"
            )
            await connection.execute("INSERT INTO pots VALUES (1, 100), (2, 100)")
        yield database


async def coins(database: Database) -> list[int]:
    async with database.session() as connection:
        return [row["coins"] for row in await connection.fetch("SELECT coins FROM pots ORDER BY id")]


async def test_a_deadlock_is_tried_again_until_both_are_done(database: Database) -> None:
    """Each takes one row, waits for the other to do so, then wants the other's."""
    met = asyncio.Barrier(2)
    tries: list[int] = []

    async def move(first: int, second: int) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            tries.append(first)
            await connection.execute("UPDATE pots SET coins = coins - 1 WHERE id = $1", first)
            if len(tries) <= 2:
                await met.wait()
            await connection.execute("UPDATE pots SET coins = coins + 2 WHERE id = $1", second)

        await database.fast(work)

    await asyncio.gather(move(1, 2), move(2, 1))
    assert len(tries) == 3
    assert await coins(database) == [101, 101]


async def test_a_serialisation_failure_is_tried_again_above_sqlalchemy_too(database: Database) -> None:
    met = asyncio.Barrier(2)
    tries: list[int] = []

    async def spend(connection: AsyncConnection) -> None:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        left = (await connection.execute(text("SELECT sum(coins) FROM pots"))).scalar_one()
        tries.append(left)
        if len(tries) <= 2:
            await met.wait()
        await connection.execute(text("UPDATE pots SET coins = :left - 50 WHERE id = 1"), {"left": left})

    await asyncio.gather(database.transaction(spend), database.transaction(spend))
    assert tries == [200, 200, 250]
    assert await coins(database) == [200, 100]


async def test_one_that_never_succeeds_is_given_up(database: Database) -> None:
    tries = []

    async def work(connection: asyncpg.Connection) -> None:
        tries.append(1)
        await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(Unavailable) as problem:
        await database.fast(work)
    assert (problem.value.reason, len(tries)) == ("DATABASE_CONTENDED", database_module.ATTEMPTS)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pots VALUES (1, 0)",  # taken
        "UPDATE pots SET coins = -1",  # against a check
        "UPDATE pots SET coins = coins * 100000000",  # out of range
        "SELECT 'x'::uuid",
    ],
)
async def test_what_the_data_is_to_blame_for_is_invalid(database: Database, statement: str) -> None:
    with pytest.raises(Invalid) as fast:
        await database.fast(lambda connection: connection.execute(statement))
    with pytest.raises(Invalid) as slow:
        await database.transaction(lambda connection: connection.execute(text(statement)))
    assert fast.value.reason == slow.value.reason == "BAD_DATA"
    assert (
        fast.value.message == slow.value.message == database_module.REFUSED
    )  # and not what is in the tables
    assert await coins(database) == [100, 100]


async def test_an_argument_that_does_not_fit_is_invalid(database: Database) -> None:
    with pytest.raises(Invalid):
        await database.fast(lambda connection: connection.execute("SELECT $1::int", 2**40))
    with pytest.raises(Invalid):
        await database.fast(lambda connection: connection.copy_records_to_table("pots", records=[(3, 2**40)]))


@pytest.mark.parametrize("kind", ["text", "jsonb"])
async def test_text_with_a_nul_is_invalid_and_says_so(database: Database, kind: str) -> None:
    given = "a\0b" if kind == "text" else '"a\\u0000b"'
    with pytest.raises(Invalid) as fast:
        await database.fast(lambda connection: connection.execute(f"SELECT $1::{kind}", given))
    with pytest.raises(Invalid) as slow:
        await database.transaction(
            lambda connection: connection.execute(text(f"SELECT CAST(:given AS {kind})"), {"given": given})
        )
    assert (fast.value.message, fast.value.reason) == ("text must not hold the character NUL", "BAD_DATA")
    assert slow.value.message == fast.value.message


async def test_a_bug_comes_out_as_it_is(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fast(lambda connection: connection.execute("SELECT * FROM pans"))


async def test_a_connection_that_dies_is_unavailable_and_replaced(database: Database) -> None:
    async def work(connection: Any) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable) as fast:
        await database.fast(work)
    with pytest.raises(Unavailable):
        await database.transaction(
            lambda connection: connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        )
    assert fast.value.retryable
    assert await coins(database) == [100, 100]


async def test_a_connection_in_no_known_state_is_unavailable_and_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asyncpg says at times when its server dies in the middle of something."""
    monkeypatch.setattr(database_module, "CONNECTIONS", 1)

    async def work(connection: asyncpg.Connection) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    async with open_database(postgres_url) as database:
        async with database.session() as connection:
            before = connection.get_server_pid()
        with pytest.raises(Unavailable):
            await database.fast(work)
        async with database.session() as connection:
            assert connection.get_server_pid() != before


async def test_dead_connections_in_the_pool_are_not_handed_out(database: Database) -> None:
    """As after a restart of the server: nobody has to fail first."""
    held = [database.session() for _ in range(5)]
    connections = [await each.__aenter__() for each in held]
    pids = [connection.get_server_pid() for connection in connections[1:]]
    for each in held[1:]:
        await each.__aexit__(None, None, None)
    await connections[0].fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", pids)
    async with asyncio.timeout(90):
        while not all(connection.is_closed() for connection in connections[1:]):
            await asyncio.sleep(0.01)
    for _ in range(5):
        await database.check()
        assert await coins(database) == [100, 100]
    await held[0].__aexit__(None, None, None)


async def test_who_finds_all_connections_in_use_is_told(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CONNECTIONS", 1)
    monkeypatch.setattr(database_module, "WAIT_SECONDS", 0.2)
    async with open_database(postgres_url) as database, database.session():
        with pytest.raises(Exhausted) as problem:
            await database.check()
    assert problem.value.retryable


async def test_no_server_is_unavailable(tmp_path: object) -> None:
    async with open_database(f"postgresql+asyncpg://lares:none@/lares?host={tmp_path}") as database:
        with pytest.raises(Unavailable) as gone:
            await database.check()
    assert gone.value.message == "the database cannot be reached now"  # and not where it should be


async def test_what_was_read_with_is_rolled_back(database: Database) -> None:
    async with database.reading() as connection:
        await connection.execute(text("UPDATE pots SET coins = 0"))
    assert await coins(database) == [100, 100]
