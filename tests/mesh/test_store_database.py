"""Transactions that are retried, database errors as Problems, and statements, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from mesh.problems import Conflict, Exhausted, Invalid, Unavailable
from store_svc.database import Connection, Database, Statement, open_database, pool
from store_svc.database.errors import VALUE_REFUSED
from store_svc.database.statement import FilteredStatement, copy_rows, parameter, unnested, unnested_values


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_database(postgres_url) as database:
        async with database.connection() as connection:
            await connection.execute(
                "CREATE TABLE pots (id int PRIMARY KEY, coins int NOT NULL CHECK (coins >= 0))"
            )
            await connection.execute("INSERT INTO pots VALUES (1, 100), (2, 100)")
        yield database


async def coins(database: Database) -> list[int]:
    async with database.connection() as connection:
        return [row["coins"] for row in await connection.fetch("SELECT coins FROM pots ORDER BY id")]


async def test_a_deadlock_is_tried_again_until_both_are_done(database: Database) -> None:
    """Each locks one row, waits until the other has done so, then locks the row of the other."""
    met = asyncio.Barrier(2)
    tries: list[int] = []

    async def move(first: int, second: int) -> None:
        async def work(connection: Connection) -> None:
            tries.append(first)
            await connection.execute("UPDATE pots SET coins = coins - 1 WHERE id = $1", first)
            if len(tries) <= 2:
                await met.wait()
            await connection.execute("UPDATE pots SET coins = coins + 2 WHERE id = $1", second)

        await database.transaction(work)

    await asyncio.gather(move(1, 2), move(2, 1))
    assert len(tries) == 3
    assert await coins(database) == [101, 101]


async def test_a_serialisation_failure_is_tried_again_until_both_are_done(database: Database) -> None:
    met = asyncio.Barrier(2)
    tries: list[int] = []

    async def spend(connection: Connection) -> None:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        left = await connection.fetchval("SELECT sum(coins) FROM pots")
        tries.append(left)
        if len(tries) <= 2:
            await met.wait()
        await connection.execute("UPDATE pots SET coins = $1::int - 50 WHERE id = 1", left)

    await asyncio.gather(database.transaction(spend), database.transaction(spend))
    assert tries == [200, 200, 250]
    assert await coins(database) == [200, 100]


async def test_a_transaction_that_never_succeeds_is_given_up(database: Database) -> None:
    tries = []

    async def work(connection: Connection) -> None:
        tries.append(1)
        await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(Unavailable) as problem:
        await database.transaction(work)
    assert (problem.value.reason, len(tries)) == ("DATABASE_CONTENDED", pool.ATTEMPTS)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pots VALUES (1, 0)",  # taken
        "UPDATE pots SET coins = -1",  # against a check
        "UPDATE pots SET coins = coins * 100000000",  # out of range
        "SELECT 'x'::uuid",
    ],
)
async def test_an_error_caused_by_the_data_is_invalid(database: Database, statement: str) -> None:
    with pytest.raises(Invalid) as in_transaction:
        await database.transaction(lambda connection: connection.execute(statement))
    with pytest.raises(Invalid) as alone:
        async with database.connection() as connection:
            await Statement(text(statement)).execute(connection)
    assert in_transaction.value.reason == alone.value.reason == "BAD_DATA"
    # The message does not contain values of the tables.
    assert in_transaction.value.message == alone.value.message == VALUE_REFUSED
    assert await coins(database) == [100, 100]


async def test_an_argument_that_does_not_fit_is_invalid(database: Database) -> None:
    with pytest.raises(Invalid):
        await database.transaction(lambda connection: connection.execute("SELECT $1::int", 2**40))
    with pytest.raises(Invalid):
        await database.transaction(
            lambda connection: connection.copy_records_to_table("pots", records=[(3, 2**40)])
        )


@pytest.mark.parametrize(("kind", "given"), [(Text(), "a\0b"), (JSONB(), '"a\\u0000b"')])
async def test_text_with_a_nul_is_invalid_with_a_message_of_its_own(
    database: Database, kind: TypeEngine[Any], given: str
) -> None:
    statement = Statement(select(parameter("given", kind)))
    with pytest.raises(Invalid) as in_transaction:
        await database.transaction(lambda connection: statement.fetch(connection, given=given))
    with pytest.raises(Invalid) as alone:
        async with database.connection() as connection:
            await statement.fetch(connection, given=given)
    assert in_transaction.value.reason == "BAD_DATA"
    assert in_transaction.value.message == "text must not contain the character NUL"
    assert alone.value.message == in_transaction.value.message


async def test_a_bug_is_raised_unchanged(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.transaction(lambda connection: connection.execute("SELECT * FROM pans"))


async def test_a_connection_that_dies_is_unavailable_and_replaced(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable) as in_transaction:
        await database.transaction(work)
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await work(connection)
    assert in_transaction.value.retryable
    assert await coins(database) == [100, 100]


async def test_a_connection_in_an_unknown_state_is_unavailable_and_replaced(postgres_url: str) -> None:
    """asyncpg may raise this when its server dies during a statement."""

    async def work(connection: Connection) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    async with open_database(postgres_url, limit=1) as database:
        async with database.connection() as connection:
            before = connection.get_server_pid()
        with pytest.raises(Unavailable):
            await database.transaction(work)
        async with database.connection() as connection:
            assert connection.get_server_pid() != before


async def test_a_transaction_can_be_cancelled_at_any_time(postgres_url: str) -> None:
    """What follows on its connection is committed, also if it was cancelled while it began."""

    async def add(connection: Connection) -> None:
        await connection.execute("INSERT INTO adding VALUES (1)")

    async def cancelled_after(database: Database, steps: int) -> bool:
        adding = asyncio.create_task(database.transaction(add))
        for _ in range(steps):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait([adding])
        return adding.cancelled()

    async with open_database(postgres_url, limit=1) as database, open_database(postgres_url) as other:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE adding (number int)")
        committed = steps = 0
        while await cancelled_after(database, steps):
            steps += 1
            await database.transaction(add)
            async with other.connection() as connection:
                rows = await connection.fetchval("SELECT count(*) FROM adding")
            # The cancelled one may have been committed, too.
            assert rows > committed
            committed = rows
    assert steps > 5


async def test_a_connection_within_a_transaction_is_not_used_again(postgres_url: str) -> None:
    async with open_database(postgres_url, limit=1) as database:
        async with database.connection() as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE never (number int)")
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT to_regclass('never')") is None


async def test_connections_are_closed_with_the_database(postgres_url: str) -> None:
    async with open_database(postgres_url) as database:
        held = database.connection()
        in_use = await held.__aenter__()
        async with database.connection() as idle:
            pass
    assert idle.is_closed()
    assert not in_use.is_closed()
    await held.__aexit__(None, None, None)
    assert in_use.is_closed()


async def test_closed_connections_in_the_pool_are_not_used(database: Database) -> None:
    """As after a restart of the server: no call fails because of them."""
    held = [database.connection() for _ in range(5)]
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


async def test_all_connections_in_use_is_exhausted(postgres_url: str) -> None:
    async with open_database(postgres_url, limit=1, wait_seconds=0.2) as database, database.connection():
        with pytest.raises(Exhausted) as problem:
            await database.check()
    assert problem.value.retryable


async def test_no_server_is_unavailable(tmp_path: object) -> None:
    async with open_database(f"postgresql+asyncpg://lares:none@/lares?host={tmp_path}") as database:
        with pytest.raises(Unavailable) as gone:
            await database.check()
    assert gone.value.message == "the database cannot be reached now"  # without the address of the server


async def test_work_that_fails_is_rolled_back(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE pots SET coins = 0")
        raise Conflict("no", "NO")

    with pytest.raises(Conflict):
        await database.transaction(work)
    assert await coins(database) == [100, 100]


class TestStatement:
    async def test_values_are_passed_by_name(self, database: Database) -> None:
        first, second = parameter("first", Integer), parameter("second", Integer)
        statement = Statement(select((first - second).label("difference"), (second + second).label("double")))
        async with database.connection() as connection:
            row = await statement.fetch_one(connection, second=1, first=3)
            assert row is not None
            assert dict(row) == {"difference": 2, "double": 2}
            assert await statement.fetch_value(connection, second=4, first=3) == -1

    @pytest.mark.parametrize("values", [{"first": 1}, {"first": 1, "second": 2, "third": 3}])
    async def test_a_missing_or_unknown_value_is_a_bug(
        self, database: Database, values: dict[str, int]
    ) -> None:
        statement = Statement(select(parameter("first", Integer) + parameter("second", Integer)))
        async with database.connection() as connection:
            with pytest.raises(TypeError, match=r"second|third"):
                await statement.fetch(connection, **values)

    async def test_rows_are_written_whatever_the_order_of_their_columns(self, database: Database) -> None:
        """Both columns have the same type, so a swap would not raise."""
        pots = Table("pots", MetaData(), Column("id", Integer), Column("coins", Integer))
        update_pot = Statement(
            update(pots)
            .values(coins=parameter("coins", Integer))
            .where(pots.c.id == parameter("pot", Integer))
        )
        rows = unnested("pot", {"id": pots.c.id, "coins": pots.c.coins})
        insert_pots = Statement(insert(pots).from_select(["coins", "id"], select(rows.c.coins, rows.c.id)))
        async with database.connection() as connection:
            await copy_rows(connection, pots, [{"coins": 7, "id": 3}, {"id": 4, "coins": 8}])
            await update_pot.execute_many(connection, [{"coins": 5, "pot": 1}, {"pot": 2, "coins": 6}])
            values = unnested_values("pot", ["coins", "id"], [{"coins": 9, "id": 5}])
            await insert_pots.execute(connection, **values)
        assert await coins(database) == [5, 6, 7, 8, 9]

    async def test_rows_that_name_different_columns_are_a_bug(self, database: Database) -> None:
        pots = Table("pots", MetaData(), Column("id", Integer), Column("coins", Integer))
        async with database.connection() as connection:
            with pytest.raises(ValueError, match="pots"):
                await copy_rows(connection, pots, [{"id": 3, "coins": 7}, {"id": 4, "coins": 8, "color": 1}])
        assert await coins(database) == [100, 100]

    async def test_conditions_apply_where_their_value_is_passed(self, database: Database) -> None:
        pots = Table("pots", MetaData(), Column("id", Integer), Column("coins", Integer))
        statement = FilteredStatement(
            lambda conditions: select(pots.c.id).where(*conditions).order_by(pots.c.id),
            {
                "least": pots.c.coins >= parameter("least", Integer),
                "id": pots.c.id == parameter("id", Integer),
            },
        )
        async with database.connection() as connection:
            await connection.execute("UPDATE pots SET coins = 200 WHERE id = 2")
            for values, ids in (({}, [1, 2]), ({"least": 150}, [2]), ({"least": 150, "id": 1}, [])):
                assert [row["id"] for row in await statement.fetch(connection, **values)] == ids
