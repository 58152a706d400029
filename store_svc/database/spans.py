"""Spans of the statements that reach the database. They carry the statement's text, without its values."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import asyncpg
from opentelemetry.trace import INVALID_SPAN, Span

from mesh.telemetry.spans import CLIENT, is_recording, span

MOST_CHARACTERS = 2000


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


def _statement(text: str) -> AbstractContextManager[Span]:
    """The span of a statement, named by its first word."""
    if not is_recording():
        return nullcontext(INVALID_SPAN)
    words = text.split()
    name = words[0].strip(";").upper() if words else "(empty)"
    attributes = {"db.system.name": "postgresql", "db.query.text": " ".join(words)[:MOST_CHARACTERS]}
    return span(name, attributes, CLIENT)
