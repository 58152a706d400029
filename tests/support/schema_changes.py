"""What a change of the schema takes away from stores that do not know it."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_COLUMNS = """
    SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
        a.attnotnull AS required, a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS filled
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
        AND NOT a.attisdropped
"""
# Everything that may refuse a row, or that ON CONFLICT may name. NOT NULL is one of the columns.
_RULES = """
    SELECT c.relname AS table, pg_get_constraintdef(r.oid) AS rule
    FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid
    WHERE r.connamespace = 'public'::regnamespace AND r.contype <> 'n'
    UNION SELECT c.relname, regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', 'UNIQUE INDEX ')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique
    UNION SELECT c.relname, 'TRIGGER ' || t.tgname
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
"""


@dataclass(frozen=True)
class Column:
    type: str
    required: bool
    filled: bool


@dataclass(frozen=True)
class Tables:
    columns: dict[tuple[str, str], Column]
    rules: frozenset[tuple[str, str]]

    @property
    def names(self) -> set[str]:
        return {table for table, _ in self.columns}


async def read_tables(connection: AsyncConnection) -> Tables:
    columns = {
        (row.table, row.column): Column(row.type, row.required, row.filled)
        for row in await connection.execute(text(_COLUMNS))
    }
    rules = [(row.table, row.rule) for row in await connection.execute(text(_RULES))]
    return Tables(columns, frozenset(rules))


def taken_away(before: Tables, after: Tables) -> list[str]:
    """What code that was written for `before` cannot do with `after`, a line each."""
    lines = [f"table {table} is gone" for table in sorted(before.names - after.names)]
    kept = before.names & after.names
    for (table, name), column in sorted(before.columns.items()):
        now = after.columns.get((table, name))
        if table not in kept:
            continue
        if now is None:
            lines.append(f"{table}.{name} is gone")
        elif now.type != column.type:
            lines.append(f"{table}.{name} is {now.type} instead of {column.type}")
        elif now.required and not column.required:
            lines.append(f"{table}.{name} must not be null any more")
        elif now.required and column.filled and not now.filled:
            lines.append(f"{table}.{name} has no default any more")
    for (table, name), column in sorted(after.columns.items()):
        new = (table, name) not in before.columns and table in kept
        if new and column.required and not column.filled:
            lines.append(f"{table}.{name} must not be null and has no default")
    changed = before.rules ^ after.rules
    lines += [
        f"{table}: {rule} is {'new' if (table, rule) in after.rules else 'gone'}"
        for table, rule in sorted(changed)
        if table in kept
    ]
    return lines
