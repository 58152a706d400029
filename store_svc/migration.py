"""Upgrades the database's schema at start."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text

from mesh.problems import Unavailable
from store_svc.database.connector import Connector
from store_svc.database.errors import problems
from store_svc.database.pool import engine_of

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger(__name__)

# Advisory lock of the process that migrates. The number is the same in all versions of Lares.
LOCK = 0x1A7E5
LOCK_SECONDS = 60
VERSIONS = Path(__file__).parent / "migrations" / "versions"


async def migrate(connector: Connector | str) -> None:
    """Applies the missing migrations in one transaction, under an advisory lock.

    Several processes may start at the same time, and one that is killed leaves the schema unchanged. Raises
    Unavailable if the database cannot be reached, and Invalid (BAD_SETTING) if the URL is wrong.
    """
    # Alembic is synchronous, so it runs in a thread, with an event loop of its own.
    if isinstance(connector, str):
        connector = Connector(connector)
    if await _revision(connector) != newest():
        await asyncio.to_thread(lambda: asyncio.run(_migrate(connector)))


def newest() -> str:
    """Returns the latest revision that this version of Lares knows."""
    return max(path.name for path in VERSIONS.glob("[0-9]*.py")).partition("_")[0]


async def _revision(connector: Connector) -> str | None:
    """Returns the revision of the database, or None if it is empty. Avoids Alembic: its import is slow."""
    engine = engine_of(connector)
    try:
        with problems():
            async with engine.connect() as connection:
                if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                    return None
                revision: str | None = await connection.scalar(
                    text("SELECT version_num FROM alembic_version")
                )
                return revision
    except Unavailable as error:  # the operator is shown the cause, which clients are not
        cause = getattr(error.__cause__, "orig", error.__cause__)
        raise Unavailable(f"the database cannot be reached: {cause}", error.reason) from None
    finally:
        await engine.dispose()


async def _migrate(connector: Connector) -> None:
    engine = engine_of(connector)
    try:
        with problems():
            async with engine.begin() as connection:
                # No limit here, as the migration of another process may take minutes. After that the
                # tables must be free within the limit.
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
        log.info("migrating database, which takes minutes if there are many events", before=before)
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if before != after:
        log.info("database migrated", before=before, after=after)


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    return config
