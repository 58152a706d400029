"""The connection pool, and transactions that are retried."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import event, text
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.problems import Invalid, Unavailable
from mesh.retry import Backoff
from mesh.telemetry.spans import is_tracing
from store_svc.database.errors import CONNECTION_ERRORS, TransactionConflict, problems
from store_svc.database.spans import TracedConnection
from store_svc.database.statement import Connection, Statement

R = TypeVar("R")

CONNECTIONS = 16
WAIT_SECONDS = 10.0  # for a connection, from the pool or from the server
STATEMENT_SECONDS = 30.0
ATTEMPTS = 6
_PAUSES = Backoff(0.01, 0.32)
_SETTINGS = {
    "application_name": "lares",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
}
_PING = Statement(text("SELECT 1"))


class Database:
    """All access to PostgreSQL, by a bounded pool of connections. Database errors are raised as Problems, as
    `store_svc.database.errors.problems` describes."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def transaction(self, work: "Callable[[Connection], Awaitable[R]]") -> R:
        """Commits what `work` does and returns its result. After a deadlock or a serialization failure it
        does all of `work` again; raises Unavailable (DATABASE_CONTENDED) after ATTEMPTS attempts."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.connection() as connection, connection.transaction():
                    return await work(connection)
            except TransactionConflict:
                await asyncio.sleep(_PAUSES.pause(attempt))
        raise Unavailable("the database is too busy with the same rows", "DATABASE_CONTENDED")

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[Connection]":
        """A connection without a transaction: each statement commits by itself. It returns to the pool
        afterwards, so session locks must be released, or the connection terminated."""
        with problems():
            async with self.engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver = cast("Connection", raw.driver_connection)
                try:
                    yield driver
                except CONNECTION_ERRORS:
                    driver.terminate()  # its state is unknown, so it must not be used again
                    raise

    async def check(self) -> None:
        """Raises Unavailable if the server does not respond."""
        async with self.connection() as connection:
            await _PING.execute(connection)


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """Raises Invalid (BAD_SETTING), without repeating the URL."""
    try:
        return create_async_engine(url, **options)
    except (ArgumentError, ValueError):
        form = "postgresql+asyncpg://user:password@host:port/name"
        raise Invalid(f"LARES_DATABASE_URL: it must have the form {form}", "BAD_SETTING") from None


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """`url` is `postgresql+asyncpg://user:password@host/name`, or `...@/name?host=/socket/folder`."""
    traced: dict[str, Any] = {"connection_class": TracedConnection} if is_tracing() else {}
    engine = engine_of(
        url,
        pool_size=CONNECTIONS,
        max_overflow=0,
        # Each connection prepares its own statements, so a few connections that are used often are quicker.
        pool_use_lifo=True,
        pool_timeout=WAIT_SECONDS,
        connect_args={
            "timeout": WAIT_SECONDS,
            "command_timeout": STATEMENT_SECONDS + 5,
            "server_settings": _SETTINGS,
            **traced,
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def _refuse_closed(driver: object, *_: object) -> None:
    """Replaces connections that a restarted server has closed, without a round trip."""
    if cast("Connection", driver.driver_connection).is_closed():  # type: ignore[attr-defined]
        raise DisconnectionError()
