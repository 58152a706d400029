"""`python -m tests.support.admin_key_kills URL FOLDER`: kills the creation of the admin key at every line.

The lines are those of store_svc/api_keys.py and mesh/durable_files.py, and each is tried from every initial
state. Prints the number of kills. It is a separate process because it forks.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine

from mesh import durable_files
from mesh.security import digest
from store_svc import api_keys
from store_svc.api_keys import ensure_admin_key
from store_svc.database import Database, open_database

KILLED = 9
CODE = (api_keys.__file__, durable_files.__file__)


def recover(file: Path, state: str) -> Callable[[Database], Awaitable[None]]:
    """Ensures the admin key as the next start does and asserts that it is valid, then prepares the initial
    `state` of the next run."""

    async def work(database: Database) -> None:
        await ensure_admin_key(database, file)
        async with database.connection() as connection:
            rows = await connection.fetch("SELECT sha256, revoked_at FROM api_keys")
            assert [tuple(row) for row in rows] == [(digest(file.read_text().strip()), None)]
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert os.listdir(file.parent) == [file.name]
            if state == "nothing":
                await connection.execute("DELETE FROM api_keys")
                file.unlink()
            elif state == "revoked":
                await connection.execute("UPDATE api_keys SET revoked_at = now()")

    return work


def forked(url: str, work: Callable[[Database], Awaitable[None]], kill_at: int = 0) -> int:
    """Runs `work` in a child, which ends at the `kill_at`th line of CODE, and returns its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in CODE:
            return None
        lines += event == "line"
        if lines == kill_at:
            os._exit(KILLED)
        return trace

    async def run() -> None:
        async with open_database(url) as database:
            if kill_at:
                sys.settrace(trace)
            await work(database)
            sys.settrace(None)

    try:
        asyncio.run(run())
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def main(url: str, folder: Path) -> None:
    create_async_engine(url)  # imports the dialect once instead of in every child
    file, kills = folder / "admin.key", 0
    for state in ("nothing", "revoked", "whole"):
        status = KILLED
        for kill_at in range(1, 1000):
            assert forked(url, recover(file, state)) == 0, f"{state}, killed at line {kill_at - 1}"
            status = forked(url, lambda database: ensure_admin_key(database, file), kill_at)
            if status == 0:
                break
            assert status == KILLED, f"{state}, line {kill_at}: {status}"
            kills += 1
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
