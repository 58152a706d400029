"""`lares migrate`: brings the schema of a given database up to date, without running a store."""

from deploy.mesh_factory import EMBEDDED
from mesh.config import Config
from mesh.problems import Invalid
from store_svc.schema import run_migrate


async def run(config: Config, action: str, seconds: float, *, new_topics: bool = False) -> None:
    """Raises Invalid BAD_SETTING for an embedded database, and what `run_migrate` raises."""
    if config.database_url == EMBEDDED:
        raise Invalid(
            "LARES_DATABASE_URL is `embedded:`, a database that is migrated whenever Lares starts",
            "BAD_SETTING",
        )
    await run_migrate(config, action, seconds, lambda line: print(line, flush=True), new_topics=new_topics)
