"""The real parts of a test session, by the same code that runs them for `lares up`."""

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
ROOMY_BYTES = 4 * 2**30
CACHE = Path(os.environ.get("LARES_CACHE", "~/.cache/lares")).expanduser()


async def fetch_parts() -> None:
    """What is not in the wheels, which can take longer than a test may."""
    await asyncio.to_thread(efficientdet_lite0, CACHE)
    jars = await asyncio.to_thread(fetch_jars, CACHE, JARS)
    await class_archive(await find_java(jars), CACHE)


@asynccontextmanager
async def running_kafka() -> AsyncIterator[str]:
    """The URL of a broker in a home of its own, on a free port."""
    with tempfile.TemporaryDirectory(prefix="lares-kafka-", dir=_scratch()) as home:
        async with open_kafka(Path(home), "127.0.0.1:0", CACHE) as url:
            yield url


@asynccontextmanager
async def running_postgres() -> AsyncIterator[str]:
    """The URL of a server in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="lares-postgres-", dir=_scratch()) as home:
        async with open_postgres(Path(home)) as url:
            yield url


@asynccontextmanager
async def fresh_database(server: str, template: str = "template1") -> AsyncIterator[str]:
    """The URL of a database of that server, made after `template`; dropped at the end with all who still use
    it."""
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.replace("/lares?", f"/{name}?")
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def migrated_template(server: str) -> None:
    """Makes MIGRATED, a database that holds the tables of this version."""
    connection = await asyncpg.connect(server.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE DATABASE {MIGRATED}")
        await migrate(server.replace("/lares?", f"/{MIGRATED}?"))
    finally:
        await connection.close()


def _scratch() -> str | None:
    """Memory, where there is plenty: a hundred databases come and go, each flushed as if it had to last."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOMY_BYTES
    return str(memory) if roomy else None
