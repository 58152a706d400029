"""Brings the database's schema up to date, and checks whether this version of Lares can work with it.

A revision *expands* the schema, so that stores of the version before go on working, unless its module has
`OLDEST_STORE`: then it is a *contract*, and only stores that know at least that revision can work with what
it leaves. What all revisions together require is kept in the comment of the table `alembic_version`, where
stores find it that do not know the newest revisions.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text

from mesh.problems import Invalid, Unavailable
from store_svc.database.connector import Connector
from store_svc.database.errors import problems
from store_svc.database.pool import engine_of

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger(__name__)

# Advisory lock of the process that migrates. The number is the same in all versions of Lares.
LOCK = 0x1A7E5
_LOCK = {"lock": LOCK}
LOCK_SECONDS = 60
READ_SECONDS = 10.0
VERSIONS = Path(__file__).parent / "migrations" / "versions"
# The rule holds for revisions after this one.
FIRST_STORE = "0018"
_COMMENT = "Lares: stores that know revision {} can work with this schema."
_READ = """
    SELECT v.version_num, obj_description(to_regclass('alembic_version'), 'pg_class')
    FROM alembic_version v
"""


@dataclass(frozen=True)
class Revision:
    """`oldest_store` is the revision that a store must know to work with the schema after this one; None if
    this one expands the schema."""

    id: str
    title: str
    oldest_store: str | None


@dataclass(frozen=True)
class Schema:
    """`revision` is None in an empty database."""

    revision: str | None = None
    oldest_store: str = FIRST_STORE

    def require(self) -> None:
        """Raises Unavailable (SCHEMA_TOO_OLD, SCHEMA_TOO_NEW) if this version cannot work with it."""
        known = newest()
        if self.revision is None or self.revision < known:
            raise Unavailable(
                f"the database has the schema {self.revision or 'of no version'}, and this version needs"
                f" {known}: run `lares migrate`",
                "SCHEMA_TOO_OLD",
            )
        if self.revision > known and self.oldest_store > known:
            raise Unavailable(
                f"the database has the schema {self.revision}, which needs stores that know"
                f" {self.oldest_store}; this version knows {known}",
                "SCHEMA_TOO_NEW",
            )


async def migrate(connector: Connector | str, *, contract: bool = True) -> None:
    """Applies the missing migrations in one transaction, under an advisory lock.

    Several processes may start at the same time, and one that is killed leaves the schema unchanged. A newer
    schema with which this version can work is left as it is.

    Raises Unavailable if the database cannot be reached or has a schema that is too new, and Invalid
    (SCHEMA_CONTRACT) if stores of the version that the schema is of could not work with the new one, unless
    `contract` allows that.
    """
    if isinstance(connector, str):
        connector = Connector(connector)
    schema = await read_schema(connector)
    if schema.revision is not None and schema.revision >= newest():
        schema.require()
        return
    # Alembic is synchronous, so it runs in a thread, with an event loop of its own.
    await asyncio.to_thread(lambda: asyncio.run(_migrate(connector, contract)))


def newest() -> str:
    """Returns the latest revision that this version of Lares knows."""
    return max(path.name for path in VERSIONS.glob("[0-9]*.py")).partition("_")[0]


def pending(schema: Schema) -> list[Revision]:
    """The revisions that `migrate` would apply, in their order."""
    return [revision for revision in revisions() if revision.id > (schema.revision or "")]


def revisions() -> list[Revision]:
    """All revisions that this version knows, in their order."""
    found = []
    for path in sorted(VERSIONS.glob("[0-9]*.py")):
        module = import_module(f"store_svc.migrations.versions.{path.stem}")
        title = (module.__doc__ or "").strip().partition("\n")[0]
        found.append(Revision(module.revision, title, getattr(module, "OLDEST_STORE", None)))
    return found


async def read_schema(connector: Connector) -> Schema:
    """Avoids Alembic: its import is slow. Raises Unavailable, also if the database falls silent."""
    engine = engine_of(connector, command_timeout=READ_SECONDS)
    try:
        with naming_the_cause(), problems():
            async with engine.connect() as connection:
                if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                    return Schema()
                row = (await connection.execute(text(_READ))).one_or_none()
                return Schema() if row is None else _schema(*row)
    finally:
        await engine.dispose()


@contextmanager
def naming_the_cause() -> Iterator[None]:
    """Adds to an Unavailable what the database says, which the operator is shown, and clients are not."""
    try:
        yield
    except Unavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        if cause is None:
            raise
        raise Unavailable(f"the database cannot be reached: {cause}", error.reason) from None


def _schema(revision: str, comment: str | None) -> Schema:
    if comment:
        before, _, after = _COMMENT.partition("{}")
        return Schema(revision, comment.removeprefix(before).removesuffix(after))
    # Whoever wrote it did not know the rule, so nothing is known of revisions beyond our own.
    return Schema(revision, max(FIRST_STORE, revision))


async def _migrate(connector: Connector, contract: bool) -> None:
    engine = engine_of(connector)
    try:
        with problems():
            async with engine.begin() as connection:
                if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), _LOCK):
                    # No limit here, as the migration of another process may take minutes. After that the
                    # tables must be free within the limit.
                    log.info("waiting for another process that migrates the database")
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), _LOCK)
                await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                await connection.run_sync(_upgrade, contract)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, contract: bool = True) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    before = MigrationContext.configure(connection).get_current_revision()
    if before is not None and before >= newest():
        return  # another process was faster
    if not contract:
        _require_expansion(before)
    config = alembic_config()
    config.attributes["connection"] = connection
    if before is not None:
        log.info("migrating database, which takes minutes if there are many events", before=before)
    command.upgrade(config, "head")
    oldest = max(FIRST_STORE, *(revision.oldest_store or "" for revision in revisions()))
    # COMMENT takes no parameters.
    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{_COMMENT.format(oldest)}'"))
    log.info("database migrated", before=before, after=newest(), oldest_store=oldest)


def _require_expansion(before: str | None) -> None:
    """Raises Invalid (SCHEMA_CONTRACT) if stores that know only `before` could not go on working."""
    if before is None:
        return
    for revision in pending(Schema(before)):
        if revision.oldest_store and revision.oldest_store > before:
            raise Invalid(
                f"revision {revision.id} takes away what stores of revision {before} use, which the database"
                f" has: stop all stores that do not know {revision.oldest_store}, then run"
                " `lares migrate contract`",
                "SCHEMA_CONTRACT",
            )


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    return config
