"""The connections to PostgreSQL, and transactions that are retried."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.retry import Backoff
from mesh.telemetry.spans import is_tracing
from store_svc.database.errors import CONNECTION_ERRORS, TransactionConflict, problems
from store_svc.database.spans import TracedConnection
from store_svc.database.statement import Connection, Statement

R = TypeVar("R")

CONNECTIONS = 16
WAIT_SECONDS = 10.0  # for one of them to be free, and for the server to accept one
CLOSE_SECONDS = 2.0
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
    """All access to PostgreSQL, by at most CONNECTIONS connections, which are made when they are needed.
    Database errors are raised as Problems, as `store_svc.database.errors.problems` describes."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """`options` are arguments of asyncpg.connect."""
        self._options = options
        self._free = asyncio.Semaphore(CONNECTIONS)
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
            try:
                connection = self._take() or await self._connect()
                try:
                    yield connection
                except CONNECTION_ERRORS:
                    connection.terminate()  # its state is unknown, so it must not be used again
                    raise
                finally:
                    self._put_back(connection)
            finally:
                self._free.release()

    async def _wait_until_free(self) -> None:
        """Waits until fewer than CONNECTIONS are in use. Raises Exhausted (DATABASE_BUSY)."""
        try:
            async with asyncio.timeout(WAIT_SECONDS if self._free.locked() else None):
                await self._free.acquire()
        except TimeoutError:
            raise Exhausted("all database connections are in use", "DATABASE_BUSY") from None

    def _take(self) -> "Connection | None":
        """An idle connection. Those that a restarted server has closed are dropped."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(**self._options)
        try:
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
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """SQLAlchemy's engine, for migrations. Raises Invalid (BAD_SETTING)."""
    with _bad_setting():
        return create_async_engine(url, **options)


def _jsonb(text: str) -> bytes:
    return b"\x01" + text.encode()  # the version of its binary format


def _from_jsonb(value: bytes) -> Any:
    return json.loads(value[1:])


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """`url` is `postgresql+asyncpg://user:password@host/name`, or `...@/name?host=/socket/folder`."""
    options = _connect_options(url) | {
        "timeout": WAIT_SECONDS,
        "command_timeout": STATEMENT_SECONDS + 5,
        "server_settings": _SETTINGS,
    }
    if is_tracing():
        options["connection_class"] = TracedConnection
    database = Database(options)
    try:
        yield database
    finally:
        await database.close()


def _connect_options(url: str) -> dict[str, Any]:
    """The arguments of asyncpg.connect that SQLAlchemy reads from the URL. Raises Invalid (BAD_SETTING)."""
    with _bad_setting():
        options: dict[str, Any] = dialect().create_connect_args(make_url(url))[1]  # type: ignore[no-untyped-call]
    options.pop("prepared_statement_cache_size", None)  # of SQLAlchemy's own connections
    return options


@contextmanager
def _bad_setting() -> Iterator[None]:
    """Raises Invalid (BAD_SETTING) for a malformed URL, without repeating it."""
    try:
        yield
    except (ArgumentError, ValueError):
        form = "postgresql+asyncpg://user:password@host:port/name"
        raise Invalid(f"LARES_DATABASE_URL: it must have the form {form}", "BAD_SETTING") from None
