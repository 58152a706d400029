"""The schema at the start of a store, and `lares migrate`."""

import asyncio
import time
from collections.abc import Callable

import structlog

from mesh.config import Config
from mesh.problems import Unavailable
from mesh.secret import Secret
from store_svc.database.connector import Connector
from store_svc.database.session_check import require_sessions
from store_svc.migration import Schema, migrate, naming_the_cause, newest, pending, read_schema
from store_svc.restored import prepare_restored

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
TOLD_SECONDS = 60.0
PLAN, APPLY, CONTRACT, RESTORED = ACTIONS = ("plan", "apply", "contract", "restored")


def connector_of(config: Config, url: Secret, *, embedded: bool) -> Connector:
    """Raises Invalid BAD_SETTING."""
    allow_plaintext = config.allow_plaintext or embedded
    return Connector(url, authority=config.database_ca, allow_plaintext=allow_plaintext)


async def run_migrate(
    config: Config, action: str, seconds: float, show: Callable[[str], None], *, new_topics: bool = False
) -> None:
    """Does what `lares migrate` is asked for: one of ACTIONS. Waits `seconds` for the database. `new_topics`
    is for RESTORED.

    Raises Unavailable if it is still away then, and what `migrate` and `prepare_restored` raise.
    """
    connector = connector_of(config, config.secret("database_url"), embedded=False)
    schema = await _until_reached(connector, seconds)
    for line in _plan(schema):
        show(line)
    if action == PLAN:
        return
    await migrate(connector, contract=action == CONTRACT)
    show(f"the database has the schema {(await read_schema(connector)).revision}")
    if action == RESTORED:
        await prepare_restored(connector, new_topics=new_topics)
        topics = "the topics are read from their beginning" if new_topics else "the topics are read on"
        show(f"the restored database can be used: {topics}")


def _plan(schema: Schema) -> list[str]:
    if schema.revision is not None and schema.revision >= newest():
        return [f"the database has the schema {schema.revision}, this version knows {newest()}"]
    lines = [f"the database has the schema {schema.revision or 'of no version'}; to be applied:"]
    for revision in pending(schema):
        kind = f"contract, needs {revision.oldest_store}" if revision.oldest_store else "expand"
        lines.append(f"  {revision.id} ({kind}) {revision.title}")
    return lines


async def _until_reached(connector: Connector, seconds: float) -> Schema:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with naming_the_cause():
                await require_sessions(connector)
            return await read_schema(connector)
        except Unavailable as problem:
            if time.monotonic() + POLL_SECONDS > deadline:
                raise
            log.warning("waiting for the database", error=problem.message)
        await asyncio.sleep(POLL_SECONDS)


async def until_schema_fits(connector: Connector, tell: Callable[[str], None]) -> None:
    """Waits, without a limit, until somebody has migrated the database. `tell` gets the reason whenever it
    changes. Raises Invalid for a setting that is wrong."""
    told, told_at = "", 0.0
    while True:
        try:
            with naming_the_cause():
                await require_sessions(connector)
            (await read_schema(connector)).require()
            return
        except Unavailable as problem:
            tell(problem.message)
            if problem.message != told or time.monotonic() - told_at > TOLD_SECONDS:
                log.warning("waiting for the schema", reason=problem.message)
                told, told_at = problem.message, time.monotonic()
        await asyncio.sleep(POLL_SECONDS)
