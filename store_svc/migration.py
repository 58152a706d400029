"""Brings the database to this version's tables, at start."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from mesh.problems import Invalid, Unavailable
from store_svc.database import engine_of, problems

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger(__name__)

# Any number that all versions of Lares share: whoever holds it migrates, the others wait for it.
LOCK = 0x1A7E5
LOCK_SECONDS = 60
VERSIONS = Path(__file__).parent / "migrations" / "versions"


async def migrate(url: str) -> None:
    """Applies what is missing, in one transaction under an advisory lock: several may start at once, and one
    that dies midway leaves nothing half done. Alembic is synchronous, so it gets a thread, with its own loop.
    """
    if await _revision(url) != newest():
        await asyncio.to_thread(lambda: asyncio.run(_migrate(url)))


def newest() -> str:
    """The last revision of this version of Lares."""
    return max(path.name for path in VERSIONS.glob("[0-9]*.py")).partition("_")[0]


async def _revision(url: str) -> str | None:
    """The database's own; None for an empty one. Asked for without Alembic, whose code takes long to read."""
    engine = engine_of(url, poolclass=NullPool)
    try:
        with problems():
            async with engine.connect() as connection:
                if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                    return None
                revision: str | None = await connection.scalar(
                    text("SELECT version_num FROM alembic_version")
                )
                return revision
    except TypeError as error:  # asyncpg's word for a parameter that it does not know
        raise Invalid(f"LARES_DATABASE_URL: {error}", "BAD_SETTING") from None
    except Unavailable as gone:  # who starts Lares is told why; clients are not
        why = getattr(gone.__cause__, "orig", gone.__cause__)
        raise Unavailable(f"the database cannot be reached: {why}", gone.reason) from None
    finally:
        await engine.dispose()


async def _migrate(url: str) -> None:
    engine = engine_of(url, poolclass=NullPool)
    try:
        with problems():
            async with engine.begin() as connection:
                # Another's migration may take minutes; afterwards the tables must be free.
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
                await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    before = MigrationContext.configure(connection).get_current_revision()
    config = alembic_config()
    config.attributes["connection"] = connection
    if before not in (None, newest()):
        log.info("migrating the database: with many events this takes minutes", before=before)
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if before != after:
        log.info("database migrated", before=before, after=after)


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    return config
