"""Brings the database to this version's tables, at start."""

import asyncio
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from store_svc.database import problems

log = structlog.get_logger(__name__)

# Any number that all versions of Lares share: whoever holds it migrates, the others wait for it.
LOCK = 0x1A7E5
LOCK_SECONDS = 60


async def migrate(url: str) -> None:
    """Applies what is missing, in one transaction under an advisory lock: several may start at once, and one
    that dies midway leaves nothing half done. Alembic is synchronous, so it gets a thread, with its own loop.
    """
    await asyncio.to_thread(lambda: asyncio.run(_migrate(url)))


async def _migrate(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        with problems():
            async with engine.begin() as connection:
                await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
                await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    before = MigrationContext.configure(connection).get_current_revision()
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if before != after:
        log.info("database migrated", before=before, after=after)


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
