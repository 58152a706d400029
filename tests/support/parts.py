"""Kafka and PostgreSQL for tests, started by the code that starts them for `lares up`."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg

from deploy.embedded.class_archive import class_archive
from deploy.embedded.java import find_java
from deploy.embedded.kafka import JARS, open_kafka
from deploy.embedded.postgres import open_postgres
from mesh.artifacts import efficientdet_lite0, fetch_jars
from store_svc.migration import migrate

MIGRATED = "migrated"
MEMORY_BYTES = 4 * 2**30
CACHE = Path(os.environ.get("LARES_CACHE", "~/.cache/lares")).expanduser()


async def fetch_parts() -> None:
    """Downloads the default model and Kafka, and makes the class archive of Kafka's Java."""
    await asyncio.to_thread(efficientdet_lite0, CACHE)
    jars = await asyncio.to_thread(fetch_jars, CACHE, JARS)
    await class_archive(await find_java(jars), CACHE)


@asynccontextmanager
async def running_kafka() -> AsyncIterator[str]:
    """Starts a broker with its own home on a free port, and yields its LARES_BUS_URL."""
    with tempfile.TemporaryDirectory(prefix="lares-kafka-", dir=_scratch()) as home:
        async with open_kafka(Path(home), "127.0.0.1:0", CACHE) as url:
            yield url


@asynccontextmanager
async def running_postgres() -> AsyncIterator[str]:
    """Starts a server with its own home, and yields its LARES_DATABASE_URL."""
    with tempfile.TemporaryDirectory(prefix="lares-postgres-", dir=_scratch()) as home:
        async with open_postgres(Path(home)) as url:
            yield url


@asynccontextmanager
async def fresh_database(server: str, template: str = "template1") -> AsyncIterator[str]:
    """Creates a database on this server from `template`, and yields its LARES_DATABASE_URL. Drops it at the
    end, even if it has connections."""
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.replace("/lares?", f"/{name}?")
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def migrated_template(server: str) -> None:
    """Creates the database MIGRATED with all tables, as a template."""
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {MIGRATED}")
        await migrate(server.replace("/lares?", f"/{MIGRATED}?"))
    finally:
        await connection.close()


def _scratch() -> str | None:
    """A folder in memory if enough is free, since PostgreSQL flushes each of the many databases to disk."""
    memory = Path("/dev/shm")
    enough = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_BYTES
    return str(memory) if enough else None
