"""Database errors as Problems."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError

from mesh.problems import Invalid, Problem, Unavailable

log = structlog.get_logger(__name__)

VALUE_REFUSED = "the database refuses this value"
DATABASE_ERRORS = (DBAPIError, asyncpg.PostgresError)
# What asyncpg raises when it loses a connection, depending on what it was doing.
CONNECTION_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_CONFLICTS = {"40001", "40P01"}  # serialization failure, deadlock
_NUL = {"22021", "22P05"}  # the character NUL in text or in JSON, which PostgreSQL cannot store
_VALUE_CLASSES = {"22", "23", "54"}  # data exception, constraint violation, limit exceeded
_SERVER_CLASSES = {"08", "28", "3D", "53", "57", "58"}  # connection, login, resources, shutdown, system


class TransactionConflict(Exception):
    """The transaction was rolled back because of a concurrent one; the same work may succeed next time."""


@contextmanager
def problems() -> Iterator[None]:
    """Turns the database errors that the block raises into Problems.

    Raises Unavailable if the server cannot be reached or cannot work now, Invalid (BAD_DATA) if the data
    itself is refused, and TransactionConflict. Other database errors are bugs and are not changed. The text
    of the database is only logged: it names hosts, files and values of other callers.
    """
    try:
        yield
    except OverflowError as error:  # raised by asyncpg's COPY for a number out of range
        log.info("value refused by the database", error=str(error))
        raise Invalid(VALUE_REFUSED, "BAD_DATA") from error
    except (*DATABASE_ERRORS, *CONNECTION_ERRORS) as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def _translated(error: BaseException) -> Problem | TransactionConflict | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    if state in _CONFLICTS:
        return TransactionConflict()
    if state[:2] in _VALUE_CLASSES:
        log.info("value refused by the database", state=state, error=str(cause))
        message = "text must not contain the character NUL" if state in _NUL else VALUE_REFUSED
        return Invalid(message, "BAD_DATA")
    lost = isinstance(error, (InterfaceError, *CONNECTION_ERRORS))
    if lost or state[:2] in _SERVER_CLASSES or getattr(error, "connection_invalidated", False):
        log.warning("database not available", error=str(cause))
        return Unavailable("the database cannot be reached now", "DATABASE_UNAVAILABLE")
    return None
