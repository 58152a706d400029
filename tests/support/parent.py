"""A process that owns embedded parts, to be killed: `python -m tests.support.parent HOME KAFKA_LISTEN`.

Prints the children's pids as JSON once both are ready, then waits to be ended.
"""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from deploy.embedded.home import lock_home
from deploy.embedded.kafka import open_kafka
from deploy.embedded.postgres import open_postgres
from tests.support.parts import CACHE


async def main(home: Path, listen: str) -> None:
    with lock_home(home):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(open_postgres(home))
            await stack.enter_async_context(open_kafka(home, listen, CACHE))
            children = psutil.Process(os.getpid()).children(recursive=True)
            print(json.dumps([child.pid for child in children]), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
