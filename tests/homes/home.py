"""A packed home of commit 09640b9, and the outcome to which the code of that commit brings it."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import asyncpg

from deploy.embedded.postgres import open_postgres

FIXTURES = Path(__file__).parents[1] / "fixtures"
PACKED, GOLDEN = FIXTURES / "home-r0.tar.xz", FIXTURES / "home-r0.json"
# The database as SQL statements, everything else as files.
PARTS = ("admin.key", "cameras", "database.sql", "kafka", "media")
# A short gap, so that events close soon. The photos of different events are further apart.
SETTINGS = {
    "LARES_EVENT_GAP_SECONDS": "2",
    "LARES_EVENT_SPAN_SECONDS": "60",
    "LARES_INGEST_ORIGINALS": "take",
}
# Commands of pg_dump for psql, which is not used here.
_TO_PSQL = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)


def pack(home: Path, packed: Path = PACKED) -> None:
    """Packs PARTS of a home that no Lares uses."""
    with tarfile.open(packed, "w:xz", preset=9) as archive:
        for part in PARTS:
            archive.add(home / part, part)


async def unpack(home: Path, packed: Path = PACKED) -> None:
    """Creates `home`, and loads its database into an embedded PostgreSQL that is stopped afterwards."""
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
