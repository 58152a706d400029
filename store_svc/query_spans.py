"""Spans of the statements that reach the database, with their text, in which parameters stand for values."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import asyncpg
from opentelemetry.trace import INVALID_SPAN, Span
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh.telemetry.spans import CLIENT, begin_span, end_spans, is_recording, span

MOST_CHARACTERS = 2000
_UNDER_WAY = "lares span"


class TracedConnection(asyncpg.Connection):
    """An asyncpg connection whose statements are children of the current span."""

    async def execute(self, query: str, *values: Any, **options: Any) -> Any:
        with _statement(query):
            return await super().execute(query, *values, **options)

    async def executemany(self, command: str, *values: Any, **options: Any) -> Any:
        with _statement(command):
            return await super().executemany(command, *values, **options)

    async def fetch(self, query: str, *values: Any, **options: Any) -> Any:
        with _statement(query):
            return await super().fetch(query, *values, **options)

    async def fetchrow(self, query: str, *values: Any, **options: Any) -> Any:
        with _statement(query):
            return await super().fetchrow(query, *values, **options)

    async def fetchval(self, query: str, *values: Any, **options: Any) -> Any:
        with _statement(query):
            return await super().fetchval(query, *values, **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
        with _statement(f"COPY {table_name} FROM STDIN"):
            return await super().copy_records_to_table(table_name, **options)


def trace_statements(engine: AsyncEngine) -> None:
    """Makes the statements that SQLAlchemy itself sends children of the current span. It prepares them, which
    goes past the methods of TracedConnection."""
    event.listen(engine.sync_engine, "before_cursor_execute", _before)
    event.listen(engine.sync_engine, "after_cursor_execute", _after)
    event.listen(engine.sync_engine, "handle_error", _failed)


def _before(connection: Connection, _: object, statement: str, *__: object) -> None:
    if is_recording():
        connection.info[_UNDER_WAY] = begin_span(*_described(statement), kind=CLIENT)


def _after(connection: Connection, *_: object) -> None:
    end_spans([connection.info.pop(_UNDER_WAY, None)])


def _failed(failure: ExceptionContext) -> None:
    error = failure.original_exception
    if failure.connection and isinstance(error, Exception):
        end_spans([failure.connection.info.pop(_UNDER_WAY, None)], error)


def _statement(text: str) -> AbstractContextManager[Span]:
    return span(*_described(text), CLIENT) if is_recording() else nullcontext(INVALID_SPAN)


def _described(text: str) -> tuple[str, dict[str, str]]:
    words = text.split()
    about = {"db.system.name": "postgresql", "db.query.text": " ".join(words)[:MOST_CHARACTERS]}
    return words[0].strip(";").upper() if words else "(empty)", about
