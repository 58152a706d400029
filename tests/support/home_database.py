"""A connection to the database of a home."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from deploy.embedded.home import private_socket_folder


@asynccontextmanager
async def home_database(home: Path) -> AsyncIterator[asyncpg.Connection]:
    """The embedded PostgreSQL of a home, which must be running."""
    connection = await asyncpg.connect(
        host=str(private_socket_folder(home, "postgres")),
        user="lares",
        database="lares",
        password=(home / "postgres" / "password").read_text().strip(),
    )
    try:
        yield connection
    finally:
        await connection.close()
