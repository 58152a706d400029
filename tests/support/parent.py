"""A process with embedded PostgreSQL and Kafka, which tests kill.

Run by `python -m tests.support.parent HOME KAFKA_LISTEN HELD`.

Prints the URLs of both as JSON when they are ready, then waits until it is killed. HELD is empty, or
`postgres.before`, `postgres.after` or `kafka.after`: then the program that initialises that part's folder
hangs before or after its work.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from deploy.embedded import kafka_broker, postgres
from deploy.embedded.home import lock_home
from deploy.embedded.kafka import open_kafka
from deploy.embedded.postgres import open_postgres
from tests.support.parts import CACHE

# The command line by which tests find a child that hangs.
HELD = "sleep 31536000"
SCRIPTS = {"before": f"exec {HELD}", "after": f'"$@" && exec {HELD}'}


def hold(part: str, moment: str) -> None:
    module: Any = {"postgres": postgres, "kafka": kafka_broker}[part]
    run = module.run_command

    async def held(command: Sequence[str], *arguments: Any, **options: Any) -> None:
        await run(["sh", "-c", SCRIPTS[moment], part, *command], *arguments, **options)

    module.run_command = held


async def main(home: Path, listen: str, held: str) -> None:
    if held:
        hold(*held.split("."))
    with lock_home(home):
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(open_postgres(home))
            kafka = await stack.enter_async_context(open_kafka(home, listen, CACHE))
            print(json.dumps({"postgres": database, "kafka": kafka}), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
