"""Reads the jobs that are left in the database of a home."""

from pathlib import Path

import asyncpg

from deploy.embedded.home import private_socket_folder

_LEFT = "SELECT kind, subject_id, due_at, attempts, lease_id, request_id FROM jobs ORDER BY kind, subject_id"


async def jobs_left(home: Path) -> list[str]:
    """One line for each job, in the embedded PostgreSQL of a home."""
    connection = await asyncpg.connect(
        host=str(private_socket_folder(home, "postgres")),
        user="lares",
        database="lares",
        password=(home / "postgres" / "password").read_text().strip(),
    )
    try:
        return [str(dict(row)) for row in await connection.fetch(_LEFT)]
    finally:
        await connection.close()
