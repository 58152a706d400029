"""What all records of the log have in common: read one, write many, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

import asyncpg

from mesh.delivery import Delivery
from mesh.topics import M, Topic

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Effect:
    """What the commit makes worth looking at: new outbox entries, events that became due."""

    outbox: bool = False
    due: bool = False


class Recorder(Protocol[M, Item]):
    """`read` is pure and raises Invalid for a record that can never be stored. `write` runs in a transaction,
    perhaps more than once, and must bear records that were written before."""

    @property
    def topic(self) -> Topic[M]: ...

    def read(self, delivery: Delivery[M]) -> Item: ...

    async def write(self, connection: "asyncpg.Connection", items: Sequence[Item]) -> Effect: ...


async def write_files(connection: "asyncpg.Connection", files: Iterable[tuple[UUID, str] | None]) -> None:
    """Remembers these file states, (id, path). Ids ascending: two transactions shall not lock crosswise."""
    known = dict(file for file in files if file)
    if known:
        ids = sorted(known)
        await connection.execute(
            "INSERT INTO files (id, path) SELECT * FROM unnest($1::uuid[], $2::text[])"
            " ON CONFLICT DO NOTHING",
            ids,
            [known[id] for id in ids],
        )
