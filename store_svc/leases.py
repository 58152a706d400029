"""Reads and writes the table `leases`: who may do something that only one process may do at a time.

All times are of the database's clock, which is one for all processes of the store.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Interval, Text, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from store_svc.database import Database
from store_svc.database.statement import Connection, Record, Statement, equals, one_of, parameter
from store_svc.database.tables import lease_tokens, leases

_now = func.clock_timestamp()
_token = lease_tokens.next_value()
_length = parameter("length", Interval)
_held = leases.c.expires_at > _now


def is_over() -> ColumnElement[bool]:
    """The condition that a lease may be taken by another. One that ends later than it could was extended
    before the clock was set back."""
    return or_(leases.c.expires_at <= _now, leases.c.expires_at > _now + leases.c.length)


def _take() -> Statement:
    values = {
        "token": _token,
        "holder": parameter("holder", Text),
        "length": _length,
        "expires_at": _now + _length,
    }
    taken = insert(leases).values({"name": parameter("name", Text), **values})
    return Statement(
        taken.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_=values,
            where=or_(is_over(), leases.c.holder == taken.excluded.holder),
        ).returning(leases.c.token)
    )


_TAKE = _take()
_FIND = Statement(
    select(leases.c.holder, leases.c.expires_at, _held.label("held")).where(equals(leases.c.name, "name"))
)
_EXTEND = Statement(
    update(leases)
    .values(expires_at=_now + leases.c.length)
    .where(one_of(leases.c.token, "tokens"))
    .returning(leases.c.token)
)
# With a token that nobody knows, so that a call that is late extends nothing.
_END = Statement(update(leases).values(token=_token, expires_at=_now).where(one_of(leases.c.token, "tokens")))
_REMOVE = Statement(delete(leases).where(one_of(leases.c.token, "tokens")))


class LeaseTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, holder: str, length: timedelta) -> tuple[int, str]:
        """Returns the token, or 0 if another holds the lease, and who holds it."""
        async with self._database.connection() as connection:
            token = await take_lease(connection, name, holder, length)
            if token:
                return token, holder
            found = await _FIND.fetch_one(connection, name=name)
        return 0, found["holder"] if found else ""

    async def extend(self, tokens: Sequence[int]) -> list[int]:
        """Returns those that are still held."""
        async with self._database.connection() as connection:
            return [row["token"] for row in await _EXTEND.fetch(connection, tokens=list(tokens))]

    async def end(self, tokens: Sequence[int]) -> None:
        async with self._database.connection() as connection:
            await _END.execute(connection, tokens=list(tokens))

    async def find(self, name: str) -> Record | None:
        """`holder`, `expires_at`, and whether it is `held`; None if nobody has ever held it."""
        async with self._database.connection() as connection:
            return await _FIND.fetch_one(connection, name=name)


async def take_lease(connection: Connection, name: str, holder: str, length: timedelta) -> int:
    """Returns the token; 0 if another holds the lease."""
    return await _TAKE.fetch_value(connection, name=name, holder=holder, length=length) or 0


async def remove_leases(connection: Connection, tokens: Sequence[int]) -> None:
    """Ends leases whose names are not used again."""
    await _REMOVE.execute(connection, tokens=list(tokens))
