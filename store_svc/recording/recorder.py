"""What a recorder of a topic does, and what all recorders share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from mesh.delivery import Delivery
from mesh.topics import M, Topic
from store_svc.database.statement import Connection, unnested, unnested_values
from store_svc.database.tables import files

Item = TypeVar("Item")

_FILE = {"id": files.c.id, "path": files.c.path}
_file = unnested("file", _FILE)
# Its parameters are `file_values`.
WRITE_FILES = (
    insert(files).from_select(list(_FILE), select(_file.c.id, _file.c.path)).on_conflict_do_nothing()
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What is new after the commit: `outbox` has something to publish, and `kept` media, which can wait; jobs
    are `due`; a rendition no longer waits (`rendered`)."""

    outbox: bool = False
    due: bool = False
    kept: bool = False
    rendered: bool = False


class Recorder(Protocol[M, Item]):
    """Turns the records of a topic into state.

    `read` is pure, and raises Invalid for a record that can never be stored. `write` runs in a transaction,
    perhaps more than once, and must accept records that were written before.
    """

    @property
    def topic(self) -> Topic[M]: ...

    def read(self, delivery: Delivery[M]) -> Item: ...

    async def write(self, connection: Connection, items: Sequence[Item]) -> Effect: ...


def file_values(known: Iterable[tuple[UUID, str] | None]) -> dict[str, list[object]]:
    """Of these states of files, (id, path). Ids ascend, so that two transactions cannot deadlock."""
    paths = dict(filter(None, known))
    rows = [{"id": id, "path": paths[id]} for id in sorted(paths, key=attrgetter("bytes"))]
    return unnested_values("file", _FILE, rows)
