"""The row of the table `house`. Its lock serialises all changes of the house."""

from sqlalchemy import true, update

from store_svc.database.statement import Connection, Statement
from store_svc.database.tables import house

_LOCK = Statement(update(house).values(told=true()))
_LOCK_AND_COUNT = Statement(update(house).values(told=true(), revision=house.c.revision + 1))


async def lock_house(connection: Connection) -> None:
    """Must come first in a transaction that changes the mode, its schedule or presence."""
    await _LOCK.execute(connection)


async def lock_and_count(connection: Connection) -> None:
    """Must come first in a transaction that changes people, expected visits or notes: readers remember these
    until the revision changes."""
    await _LOCK_AND_COUNT.execute(connection)
