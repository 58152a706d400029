"""A store's database for synchronous tests, and the Problems that its servicers return."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from mesh.permissions import OF_A_KEY
from mesh.problems import Problem
from mesh.rpc import CALLER_ID, CALLER_PERMISSIONS, problem_of
from store_svc.database import Database
from store_svc.database.tables import metadata
from tests.support.loop_thread import LoopThread
from tests.support.parts import MIGRATED, fresh_database
from tests.support.store_rows import Row, open_store_database, write, write_due

# With this metadata, a call is made with an API key.
AS_KEY = (
    (CALLER_ID, "6f0f5a55-3f0e-5c61-9a52-7d1c6a9a0b11"),
    (CALLER_PERMISSIONS, ",".join(map(str, OF_A_KEY))),
)


class SyncDatabase:
    """A migrated database, used from outside of the event loop."""

    def __init__(self, thread: LoopThread, server: str) -> None:
        self._thread = thread
        self.database: Database = thread.enter(
            open_store_database(thread.enter(fresh_database(server, MIGRATED)))
        )

    def write(self, table: Any, *rows: Row) -> None:
        self._thread.run(write(self.database, table, *rows))

    def write_due(self, *pairs: tuple[Row, Row]) -> None:
        self._thread.run(write_due(self.database, *pairs))

    def execute(self, statement: str) -> list[Any]:
        async def work() -> list[Any]:
            async with self.database.connection() as connection:
                return await connection.fetch(statement)

        return self._thread.run(work())

    def clear(self) -> None:
        kept = {"feed_head", "feed_published"}
        self.execute(f"TRUNCATE {', '.join(sorted(metadata.tables.keys() - kept))}")
        for table in kept:
            self.execute(f"UPDATE {table} SET sequence = 0")


@contextmanager
def refused(kind: type[Problem], reason: str) -> Iterator[None]:
    """The call in the block fails with this Problem."""
    with pytest.raises(grpc.RpcError) as failure:
        yield
    problem = problem_of(failure.value)  # type: ignore[arg-type]
    assert (type(problem), problem.reason) == (kind, reason)
