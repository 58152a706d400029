"""The home of before issue 7: packed beside the outcome that commit 09640b9 itself brings it to."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import asyncpg

from deploy.embedded.postgres import open_postgres

FIXTURES = Path(__file__).parents[1] / "fixtures"
PACKED, GOLDEN = FIXTURES / "home-r0.tar.xz", FIXTURES / "home-r0.json"
# Kafka's and ours as they are, the database as statements.
PARTS = ("admin.key", "cameras", "database.sql", "kafka", "media")
# A gap that ends soon: the photos of different events lie further apart.
SETTINGS = {
    "LARES_EVENT_GAP_SECONDS": "2",
    "LARES_EVENT_SPAN_SECONDS": "60",
    "LARES_INGEST_ORIGINALS": "take",
}
# pg_dump's word to psql, which is not asked.
_TO_PSQL = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)


def pack(home: Path, packed: Path = PACKED) -> None:
    """`home` holds PARTS, and nobody runs on it."""
    with tarfile.open(packed, "w:xz", preset=9) as archive:
        for part in PARTS:
            archive.add(home / part, part)


async def unpack(home: Path, packed: Path = PACKED) -> None:
    """Makes `home`, with the database in a PostgreSQL of its own, which is stopped again."""
    home.mkdir(mode=0o700)
    with tarfile.open(packed) as archive:
        archive.extractall(home, filter="data")
    dump = home / "database.sql"
    async with open_postgres(home) as url:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            await connection.execute(_TO_PSQL.sub("", dump.read_text()))
        finally:
            await connection.close()
    dump.unlink()


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found
