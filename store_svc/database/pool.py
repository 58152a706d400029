"""The connections to PostgreSQL, and transactions that are retried."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from mesh.problems import Exhausted, Unavailable
from mesh.retry import Backoff
from mesh.telemetry.spans import is_tracing
from store_svc.database.connector import Connector
from store_svc.database.errors import CONNECTION_ERRORS, TransactionConflict, problems
from store_svc.database.spans import TracedConnection
from store_svc.database.statement import Connection, Statement

R = TypeVar("R")

CONNECTIONS = 16
WAIT_SECONDS = 10.0
CLOSE_SECONDS = 2.0
STATEMENT_SECONDS = 30.0
# Within which a connection must answer after what it did was cancelled, or it is not used again.
SETTLE_SECONDS = 2.0
ATTEMPTS = 6
_PAUSES = Backoff(0.01, 0.32)
# Not sent with the login, because connection poolers refuse some of them there.
_SETTINGS = f"""
    SET application_name = 'lares'; SET jit = off; SET timezone = 'UTC';
    SET statement_timeout = '{STATEMENT_SECONDS:.0f}s'; SET idle_in_transaction_session_timeout = '60s'
"""
_PING = Statement(text("SELECT 1"))


@dataclass(frozen=True)
class PoolState:
    """The connections of this process: at most `limit`, of which `open` exist and `in_use` are in use.
    `waiting` callers wait for one."""

    limit: int
    open: int
    in_use: int
    waiting: int


class Database:
    """All access to PostgreSQL, by a bounded number of connections, which are made when they are needed.
    Database errors are raised as Problems, as `store_svc.database.errors.problems` describes."""

    def __init__(
        self,
        connector: Connector,
        limit: int = CONNECTIONS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`limit` is the most connections; a caller waits at most `wait_seconds` for one of them."""
        self._connector, self._limit, self._wait_seconds = connector, limit, wait_seconds
        self._free = asyncio.Semaphore(limit)
        self._in_use = self._waiting = 0
        # The last one is used next: each connection prepares its own statements, so few are quicker.
        self._idle: list[Connection] = []
        self._closed = False

    async def transaction(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        """Commits what `work` does and returns its result. After a deadlock or a serialization failure it
        does all of `work` again; raises Unavailable (DATABASE_CONTENDED) after ATTEMPTS attempts."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.connection() as connection:
                    return await _in_transaction(connection, work)
            except TransactionConflict:
                await asyncio.sleep(_PAUSES.pause(attempt))
        raise Unavailable("the database is too busy with the same rows", "DATABASE_CONTENDED")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection without a transaction: each statement commits by itself. Others use it afterwards, so
        session locks must be released, or the connection terminated."""
        with problems():
            await self._wait_until_free()
            self._in_use += 1
            try:
                connection = self._take() or await self._connect()
                try:
                    yield connection
                except CONNECTION_ERRORS:
                    connection.terminate()  # its state is unknown, so it must not be used again
                    raise
                except asyncio.CancelledError:
                    await _settle(connection, "SELECT 1")
                    raise
                finally:
                    self._put_back(connection)
            finally:
                self._in_use -= 1
                self._free.release()

    async def _wait_until_free(self) -> None:
        """Waits until fewer than the limit are in use. Raises Exhausted (DATABASE_BUSY)."""
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Exhausted("all database connections are in use", "DATABASE_BUSY") from None
        finally:
            self._waiting -= 1

    def _take(self) -> "Connection | None":
        """An idle connection. Those that a restarted server has closed are dropped."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connect(self) -> Connection:
        options = {"connection_class": TracedConnection} if is_tracing() else {}
        connection = await self._connector.connect(command_timeout=STATEMENT_SECONDS + 5, **options)
        try:
            await connection.execute(_SETTINGS)
            await connection.set_type_codec(
                "jsonb", encoder=_jsonb, decoder=_from_jsonb, schema="pg_catalog", format="binary"
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        if connection.is_closed():
            return
        if self._closed or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Closes the idle connections; those in use are closed after their use."""
        self._closed = True
        for connection in self._idle:
            with suppress(*CONNECTION_ERRORS):
                await connection.close(timeout=CLOSE_SECONDS)
        self._idle.clear()

    def state(self) -> PoolState:
        return PoolState(self._limit, self._in_use + len(self._idle), self._in_use, self._waiting)

    async def check(self) -> None:
        """Raises Unavailable if the server does not respond."""
        async with self.connection() as connection:
            await _PING.execute(connection)


async def _in_transaction(connection: Connection, work: Callable[[Connection], Awaitable[R]]) -> R:
    # Not by asyncpg's transactions: one that is cancelled while it begins leaves the connection in a state in
    # which the next one is a savepoint of a transaction that is never committed.
    try:
        await connection.execute("BEGIN")
        result = await work(connection)
    except BaseException:
        await _settle(connection, "ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


async def _settle(connection: Connection, statement: str) -> None:
    """Executes a statement after one that failed or was cancelled, and whose end may not have arrived yet. If
    the server does not answer soon, the connection is terminated: it may be silent for ever, and each of its
    next users would give up before asyncpg does."""
    if connection.is_closed():
        return
    try:
        await connection.execute(statement, timeout=SETTLE_SECONDS)
    except (Exception, asyncio.CancelledError):
        connection.terminate()


def engine_of(connector: Connector, **options: Any) -> AsyncEngine:
    """SQLAlchemy's engine, for migrations. It keeps no connections. `options` are those of `connect`."""
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=partial(connector.connect, **options), poolclass=NullPool
    )


def _jsonb(text: str) -> bytes:
    return b"\x01" + text.encode()  # the version of its binary format


def _from_jsonb(value: bytes) -> Any:
    return json.loads(value[1:])


@asynccontextmanager
async def open_database(
    connector: Connector | str, *, limit: int = CONNECTIONS, wait_seconds: float = WAIT_SECONDS
) -> AsyncIterator[Database]:
    """A URL stands for a connector to it without further settings. Raises Invalid (BAD_SETTING)."""
    if isinstance(connector, str):
        connector = Connector(connector)
    database = Database(connector, limit, wait_seconds)
    try:
        yield database
    finally:
        await database.close()
