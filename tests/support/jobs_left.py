"""Reads the jobs that are left in the database of a home."""

from pathlib import Path

from tests.support.home_database import home_database

_LEFT = "SELECT kind, subject_id, due_at, attempts, lease_id, request_id FROM jobs ORDER BY kind, subject_id"


async def jobs_left(home: Path) -> list[str]:
    """One line for each job, in the embedded PostgreSQL of a home."""
    async with home_database(home) as connection:
        return [str(dict(row)) for row in await connection.fetch(_LEFT)]
