"""The people whom the house knows."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, insert, select, update

from lares.store.v1.house_pb2 import Person
from mesh.problems import Conflict, NotFound
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, equals, parameter
from store_svc.database.tables import people
from store_svc.domain.house import require_one_line
from store_svc.house.house_messages import person_message
from store_svc.house.house_row import lock_and_count
from store_svc.ids import parse_uuid

MAX_PEOPLE = 200  # that evidence can name
FIELDS = ("name", "relation")

_ALL = Statement(select(people).order_by(people.c.name, people.c.id))
_COUNT = Statement(select(func.count()).select_from(people))
_FIND = Statement(select(people).where(equals(people.c.id, "id")))
_ADD = Statement(insert(people).returning(*people.c))
_CHANGE = Statement(
    update(people)
    .values({name: parameter(name, people.c[name]) for name in (*FIELDS, "updated_at")})
    .where(equals(people.c.id, "person_id"))
    .returning(*people.c)
)
_DELETE = Statement(delete(people).where(equals(people.c.id, "id")).returning(people.c.id))


class People:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: str, relation: int) -> Person:
        """Raises Invalid (BAD_TEXT), Conflict (TOO_MANY_PEOPLE)."""
        require_one_line(name, "name")

        async def work(connection: Connection) -> Any:
            await lock_and_count(connection)
            if await _COUNT.fetch_value(connection) >= MAX_PEOPLE:
                raise Conflict(f"there are {MAX_PEOPLE} people, which is the limit", "TOO_MANY_PEOPLE")
            now = self._clock()
            row = {"id": uuid4(), "name": name, "relation": relation, "created_at": now, "updated_at": now}
            return await _ADD.fetch_one(connection, **row)

        return person_message(await self._database.transaction(work))

    async def update(self, person: Person, fields: Collection[str]) -> Person:
        """Changes these of FIELDS. Raises NotFound (PERSON_NOT_FOUND), Invalid (BAD_TEXT)."""
        if "name" in fields:
            require_one_line(person.name, "name")

        async def work(connection: Connection) -> Any:
            await lock_and_count(connection)
            row = await find_person(connection, person.id)
            values = {name: getattr(person, name) if name in fields else row[name] for name in FIELDS}
            return await _CHANGE.fetch_one(
                connection, person_id=row["id"], updated_at=self._clock(), **values
            )

        return person_message(await self._database.transaction(work))

    async def delete(self, person_id: str) -> None:
        """Raises NotFound (PERSON_NOT_FOUND)."""

        async def work(connection: Connection) -> None:
            await lock_and_count(connection)
            if await _DELETE.fetch_value(connection, id=_uuid(person_id)) is None:
                raise _not_found(person_id)

        await self._database.transaction(work)

    async def all(self) -> list[Person]:
        """By name."""
        async with self._database.connection() as connection:
            return [person_message(row) for row in await _ALL.fetch(connection)]


async def find_person(connection: Connection, person_id: str) -> Any:
    """The row of a person. Raises NotFound (PERSON_NOT_FOUND)."""
    row = await _FIND.fetch_one(connection, id=_uuid(person_id))
    if row is None:
        raise _not_found(person_id)
    return row


def _uuid(person_id: str) -> UUID:
    try:
        return parse_uuid(person_id)
    except ValueError:
        raise _not_found(person_id) from None


def _not_found(person_id: str) -> NotFound:
    return NotFound("there is no such person", "PERSON_NOT_FOUND", person_id=person_id[:64])
