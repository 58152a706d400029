"""The real parts of a test session, by the same code that runs them for `lares up`."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg

from deploy.embedded.archive import class_archive
from deploy.embedded.java import find_java
from deploy.embedded.kafka import JARS, open_kafka
from deploy.embedded.postgres import open_postgres
from mesh.artifacts import efficientdet_lite0, fetch_jars
from store_svc.migration import migrate

MIGRATED = "migrated"
CACHE = Path(os.environ.get("LARES_CACHE", "~/.cache/lares")).expanduser()


async def fetch_parts() -> None:
    """What is not in the wheels, which can take longer than a test may."""
    await asyncio.to_thread(efficientdet_lite0, CACHE)
    jars = await asyncio.to_thread(fetch_jars, CACHE, JARS)
    await class_archive(await find_java(jars), CACHE)


@asynccontextmanager
async def running_kafka() -> AsyncIterator[str]:
    """The URL of a broker in a home of its own, on a free port."""
    with tempfile.TemporaryDirectory(prefix="lares-kafka-") as home:
        async with open_kafka(Path(home), "127.0.0.1:0", CACHE) as url:
            yield url


@asynccontextmanager
async def running_postgres() -> AsyncIterator[str]:
    """The URL of a server in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="lares-postgres-") as home:
        async with open_postgres(Path(home)) as url:
            yield url


@asynccontextmanager
async def fresh_database(server: str, template: str = "template1") -> AsyncIterator[str]:
    """The URL of a database of that server, made after `template`. Who still uses it at the end is cut off;
    it stays, since a drop takes ten times as long as a copy, and goes with the server."""
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.replace("/lares?", f"/{name}?")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
    finally:
        await connection.close()


async def migrated_template(server: str) -> None:
    """Makes MIGRATED, a database that holds the tables of this version."""
    async with fresh_database(server) as url:
        await migrate(url)
        name = url.partition("?")[0].rpartition("/")[2]
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"ALTER DATABASE {name} RENAME TO {MIGRATED}")
    finally:
        await connection.close()
