"""Runs SQLAlchemy Core statements on asyncpg connections.

Statements are written with Core, take values by name and return rows whose columns are read by name. They do
not run through SQLAlchemy's connections, which take six times as much CPU in this process: recording a batch
and reading a page are mostly limited by it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, TypeAlias

import asyncpg
from sqlalchemy import (
    ARRAY,
    BindParameter,
    Column,
    ColumnElement,
    Executable,
    Select,
    Table,
    bindparam,
    func,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

# For annotations, so that other modules need not import asyncpg.
Connection: TypeAlias = "asyncpg.Connection"
Record: TypeAlias = asyncpg.Record
_TypeLike: TypeAlias = "TypeEngine[Any] | type[TypeEngine[Any]] | Column[Any]"

MAX_VARIANTS = 256  # of one FilteredStatement
_DIALECT = dialect()  # type: ignore[no-untyped-call]


class Row(Protocol):
    """Gives its values by column name: a Record, or a dict."""

    def __getitem__(self, column: str, /) -> Any: ...


class _Compiled(NamedTuple):
    """`names` are the parameters in the order of their numbers in `sql`; `constants` are values of those that
    are not `required`."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    required: frozenset[str]


class Statement:
    """A Core statement, compiled at its first use.

    Its methods take the values of its parameters by name and raise TypeError if one is missing or unknown.
    Values are passed to asyncpg unchanged: a JSONB column takes JSON text, and gives the parsed value.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement

    async def fetch(self, connection: "Connection", /, **values: object) -> list[Record]:
        return await connection.fetch(self._compiled.sql, *self._arguments(values))

    async def fetch_one(self, connection: "Connection", /, **values: object) -> Record | None:
        """Returns the first row, or None."""
        return await connection.fetchrow(self._compiled.sql, *self._arguments(values))

    async def fetch_value(self, connection: "Connection", /, **values: object) -> Any:
        """Returns the only column of the first row, or None."""
        return await connection.fetchval(self._compiled.sql, *self._arguments(values))

    async def execute(self, connection: "Connection", /, **values: object) -> None:
        await connection.execute(self._compiled.sql, *self._arguments(values))

    async def execute_many(self, connection: "Connection", rows: Iterable[Mapping[str, object]], /) -> None:
        """Executes the statement once for each row, in one round trip."""
        await connection.executemany(self._compiled.sql, [self._arguments(row) for row in rows])

    def _arguments(self, values: Mapping[str, object]) -> list[object]:
        compiled = self._compiled
        if values.keys() != compiled.required:
            different = sorted(values.keys() ^ compiled.required)
            raise TypeError(f"missing or unknown parameters: {', '.join(different)}")
        if compiled.constants:
            values = {**compiled.constants, **values}
        return [values[name] for name in compiled.names]

    @cached_property
    def _compiled(self) -> _Compiled:
        compiled = self._statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        names = tuple(compiled.positiontup or ())
        constants = {name: bind.value for name in names if not (bind := compiled.binds[name]).required}
        return _Compiled(compiled.string, names, constants, frozenset(names) - constants.keys())


class FilteredStatement:
    """A SELECT with a varying set of conditions, each of which has a name. A condition applies if a value of
    that name is passed. Each combination is compiled at its first use."""

    def __init__(
        self,
        select: "Callable[[list[ColumnElement[bool]]], Select[*tuple[Any, ...]]]",
        conditions: Mapping[str, ColumnElement[bool]],
    ) -> None:
        """`select` makes the statement from the conditions that apply."""
        self._select = select
        self._conditions = conditions
        self._variant = lru_cache(MAX_VARIANTS)(self._make_variant)

    async def fetch(self, connection: "Connection", /, **values: object) -> list[Record]:
        return await self._variant(frozenset(values)).fetch(connection, **values)

    def _make_variant(self, names: frozenset[str]) -> Statement:
        conditions = [condition for name, condition in self._conditions.items() if name in names]
        return Statement(self._select(conditions))


async def copy_rows(connection: "Connection", table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Inserts the rows with COPY. Raises ValueError if they do not all name the same columns."""
    if not rows:
        return
    columns = list(rows[0])
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"rows for the table {table.name} name different columns")
    values = itemgetter(*columns)
    records = map(values, rows) if len(columns) > 1 else ((values(row),) for row in rows)
    await connection.copy_records_to_table(table.name, records=records, columns=columns)


def parameter(name: str, type_: _TypeLike) -> BindParameter[Any]:
    """A required parameter with a type or the type of a column."""
    return bindparam(name, type_=type_.type if isinstance(type_, Column) else type_)


def array(name: str, type_: _TypeLike) -> BindParameter[Any]:
    """A required parameter that takes a list."""
    return bindparam(name, type_=ARRAY(type_.type if isinstance(type_, Column) else type_))


def equals(column: Column[Any], name: str) -> ColumnElement[bool]:
    """The condition that the column equals the parameter of this name."""
    return column == parameter(name, column)


def one_of(column: Column[Any], name: str) -> ColumnElement[bool]:
    """The condition that the column equals an element of the parameter of this name, which takes a list."""
    return column == func.any(array(name, column))


def unnested(
    name: str, columns: Mapping[str, Column[Any]], ordinality: str | None = None
) -> TableValuedAlias:
    """Rows from parallel lists: a FROM element called `name` with these columns, of the types of the given
    columns. The list of a column is the parameter `<name>_<column>`. With `ordinality`, a further column of
    that name counts the rows from 1."""
    lists = [array(f"{name}_{column}", like) for column, like in columns.items()]
    rows = func.unnest(*lists).table_valued(*columns, with_ordinality=ordinality)
    return rows.render_derived(name=name)


def unnested_values(
    name: str, columns: Collection[str], rows: Sequence[Mapping[str, object]]
) -> dict[str, list[object]]:
    """The parameters of `unnested` with these columns, from rows."""
    return {f"{name}_{column}": [row[column] for row in rows] for column in columns}
