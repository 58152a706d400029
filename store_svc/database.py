"""The connection pool, transactions that are tried again, and database errors as Problems.

One pool serves both ways down: SQLAlchemy Core for ordinary paths (`reading`, `transaction`), and for the
hot ones (a batch of records, the relay) the asyncpg connection beneath it (`fast`, `session`): a sixth of
the client CPU.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import asyncpg
import structlog
from sqlalchemy import event, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mesh.problems import Exhausted, Invalid, Problem, Unavailable
from mesh.telemetry.spans import is_tracing
from store_svc.query_spans import TracedConnection, trace_statements

log = structlog.get_logger(__name__)

R = TypeVar("R")

CONNECTIONS = 16
WAIT_SECONDS = 10.0  # for a connection, from the pool or from the server
STATEMENT_SECONDS = 30.0
ATTEMPTS = 6
REFUSED = "the database refuses this value"
_AGAIN = {"40001", "40P01"}  # serialisation failure, deadlock: the same work may succeed next time
_NUL = {"22021", "22P05"}  # in text, in JSON: the one character that PostgreSQL has no room for
# What asyncpg raises when a connection goes under, depending on what it was doing.
_BROKEN = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_SETTINGS = {
    "application_name": "lares",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
}


class _Again(Exception):
    """The transaction lost against another; nothing of it happened."""


class Database:
    """All access to PostgreSQL. Whatever fails for want of a server raises Unavailable, for the data itself
    Invalid (reason BAD_DATA); other database errors are bugs and come out as they are. What the database says
    is for the log: it names hosts, files, and other people's rows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries; what it changed is rolled back."""
        with problems():
            async with self.engine.connect() as connection:
                yield connection

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        """Commits what `work` does; on a deadlock or a serialisation failure does all of it again."""

        async def once() -> R:
            with problems():
                async with self.engine.begin() as connection:
                    return await work(connection)

        return await _again(once)

    async def fast(self, work: "Callable[[asyncpg.Connection], Awaitable[R]]") -> R:
        """The same, on the asyncpg connection."""

        async def once() -> R:
            async with self.session() as connection, connection.transaction():
                return await work(connection)

        return await _again(once)

    @asynccontextmanager
    async def session(self) -> "AsyncIterator[asyncpg.Connection]":
        """An asyncpg connection of one's own, without a transaction. It goes back to the pool afterwards, so
        session locks must be given back, or the connection closed."""
        with problems():
            async with self.engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver = cast("asyncpg.Connection", raw.driver_connection)
                try:
                    yield driver
                except _BROKEN:
                    driver.terminate()  # in no known state: nothing for whoever comes next
                    raise

    async def check(self) -> None:
        """Raises Unavailable when the server does not answer."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """Raises Invalid BAD_SETTING, without repeating the URL."""
    try:
        return create_async_engine(url, **options)
    except (ArgumentError, ValueError):
        form = "postgresql+asyncpg://user:password@host:port/name"
        raise Invalid(f"LARES_DATABASE_URL: it reads {form}", "BAD_SETTING") from None


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """`url` is `postgresql+asyncpg://user:password@host/name`, or `...@/name?host=/socket/folder`."""
    traced: dict[str, Any] = {"connection_class": TracedConnection} if is_tracing() else {}
    engine = engine_of(
        url,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,  # each connection prepares its own statements: better few that know them
        pool_timeout=WAIT_SECONDS,
        connect_args={
            "timeout": WAIT_SECONDS,
            "command_timeout": STATEMENT_SECONDS + 5,
            "server_settings": _SETTINGS,
            **traced,
        },
    )
    if traced:
        trace_statements(engine)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


@contextmanager
def problems() -> Iterator[None]:
    """Turns database errors into Problems, as Database says."""
    try:
        yield
    except PoolTimeout:
        raise Exhausted("all database connections are in use", "DATABASE_BUSY") from None
    except OverflowError as error:  # how asyncpg's COPY refuses a number
        log.info("the database refused a value", error=str(error))
        raise Invalid(REFUSED, "BAD_DATA") from error
    except (DBAPIError, asyncpg.PostgresError, *_BROKEN) as error:
        found = _problem(error)
        if found is None:
            raise
        raise found from error


def _problem(error: BaseException) -> Problem | _Again | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    if state in _AGAIN:
        return _Again()
    if state[:2] in {"22", "23", "54"}:
        log.info("the database refused a value", state=state, error=str(cause))
        return Invalid("text must not hold the character NUL" if state in _NUL else REFUSED, "BAD_DATA")
    gone = isinstance(error, (InterfaceError, *_BROKEN))
    if (
        gone
        or state[:2] in {"08", "28", "3D", "53", "57", "58"}
        or getattr(error, "connection_invalidated", False)
    ):
        log.warning("the database cannot be reached", error=str(cause))
        return Unavailable("the database cannot be reached now", "DATABASE_UNAVAILABLE")
    return None


async def _again(once: Callable[[], Awaitable[R]]) -> R:
    for attempt in range(ATTEMPTS):
        try:
            return await once()
        except _Again:
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
    raise Unavailable("the database is too busy with the same rows", "DATABASE_CONTENDED")


def _refuse_closed(driver: object, *_: object) -> None:
    """A restarted server leaves dead connections in the pool: take another, at no cost of a round trip."""
    if cast("asyncpg.Connection", driver.driver_connection).is_closed():  # type: ignore[attr-defined]
        raise DisconnectionError()
