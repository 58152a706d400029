"""A connection to the database of a home."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from deploy.embedded.home import private_socket_folder

# A server that was killed does not answer.
CONNECT_SECONDS, CLOSE_SECONDS = 30.0, 5.0


@asynccontextmanager
async def home_database(home: Path) -> AsyncIterator[asyncpg.Connection]:
    """The embedded PostgreSQL of a home, which must be running."""
    connection = await asyncpg.connect(
        host=str(private_socket_folder(home, "postgres")),
        user="lares",
        database="lares",
        password=(home / "postgres" / "password").read_text().strip(),
        timeout=CONNECT_SECONDS,
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=CLOSE_SECONDS)
