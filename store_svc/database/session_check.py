"""Refuses connection poolers that give each transaction another session of PostgreSQL.

Lares keeps what belongs to a session: prepared statements, and settings such as the limit of a statement's
time. PgBouncer with `pool_mode=transaction`, and poolers like it, mix those of all their clients.
"""

import asyncio

import asyncpg
from sqlalchemy import text

from mesh.problems import Invalid, Unavailable
from store_svc.database.connector import Connector
from store_svc.database.errors import problems
from store_svc.database.statement import Connection, Statement

SECONDS = 5.0
ROUNDS = 3
_SESSION = Statement(text("SELECT pg_backend_pid() || coalesce(current_setting('lares.session', true), '')"))
# What a pooler answers to a prepared statement or to a transaction if it has no sessions.
_REFUSALS = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.ProtocolViolationError,
    asyncpg.ConnectionDoesNotExistError,
)


async def require_sessions(connector: Connector) -> None:
    """Raises Invalid (TRANSACTION_POOLING) if a connection does not keep its session, and Unavailable if the
    database cannot be reached or gives no second session."""
    with problems():
        first = await connector.connect(statement_cache_size=0)
        try:
            second = await connector.connect(statement_cache_size=0)
            try:
                async with asyncio.timeout(SECONDS):
                    kept = await _keep_sessions(first, second)
            except _REFUSALS as error:
                if first.is_closed() and "pooling" not in str(error):
                    raise
                raise _refused(f"it answers: {str(error).partition(chr(10))[0]}") from None
            except TimeoutError:
                raise Unavailable(
                    f"the database gave no second session within {SECONDS:g} s, which a connection pooler"
                    " may prevent",
                    "DATABASE_UNAVAILABLE",
                ) from None
            finally:
                second.terminate()
        finally:
            first.terminate()
    if not kept:
        raise _refused("two transactions of one connection had different sessions")


async def _keep_sessions(first: Connection, second: Connection) -> bool:
    """Whether both are in the same session whenever they begin a transaction.

    A pooler hands out idle sessions in some order: the one that was used last, or longest ago. So the
    connections end their transactions in one order and begin the next ones in the same and in the other.
    """
    own: dict[Connection, str] = {}
    for connection in (first, second):
        await connection.execute(f"SET lares.session = '-{id(connection)}'")
    for number in range(2 * ROUNDS):
        beginning, ending = [first, second], [first, second]
        if number % 2:
            beginning.reverse()
        if number % 4 > 1:
            ending.reverse()
        for connection in beginning:
            await connection.execute("BEGIN")
            session = await _SESSION.fetch_value(connection)
            if own.setdefault(connection, session) != session:
                return False
        for connection in ending:
            await connection.execute("COMMIT")
    return True


def _refused(why: str) -> Invalid:
    return Invalid(
        f"LARES_DATABASE_URL leads to a connection pooler that shares sessions among transactions ({why}):"
        " connect to PostgreSQL itself, or let the pooler pool sessions (PgBouncer: pool_mode=session)",
        "TRANSACTION_POOLING",
    )
