"""A process that owns embedded parts, to be killed: `python -m tests.support.parent HOME KAFKA_LISTEN`.

Prints their URLs as JSON once both are ready, then waits to be ended.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from deploy.embedded.home import lock_home
from deploy.embedded.kafka import open_kafka
from deploy.embedded.postgres import open_postgres
from tests.support.parts import CACHE


async def main(home: Path, listen: str) -> None:
    with lock_home(home):
        async with AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(open_postgres(home))
            kafka = await stack.enter_async_context(open_kafka(home, listen, CACHE))
            print(json.dumps({"postgres": postgres, "kafka": kafka}), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
