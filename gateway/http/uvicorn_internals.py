"""Runs uvicorn (0.54.0) inside an event loop that something else owns.

`uvicorn.Server.serve` installs signal handlers, which belong to the composition root, and returns only when
the server ends. This does what it does otherwise, with the steps that it is made of. They are not documented:
check them, with tests/unit/gateway/test_listener.py, when uvicorn is upgraded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

DATE_SECONDS = 1.0


@asynccontextmanager
async def serving(config: uvicorn.Config, listening_socket: socket.socket) -> AsyncIterator[None]:
    """Serves until the block ends. `config` must be loaded."""
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.on_tick(0)
    await server.startup(sockets=[listening_socket])
    dates = asyncio.create_task(_keep_date(server), name="gateway dates")
    try:
        yield
    finally:
        dates.cancel()
        await asyncio.gather(dates, return_exceptions=True)
        await server.shutdown(sockets=[listening_socket])


async def _keep_date(server: uvicorn.Server) -> None:
    """Renews the header `Date`. `Server.main_loop` wakes up ten times a second instead, to see whether the
    server is to end."""
    while True:
        await asyncio.sleep(DATE_SECONDS)
        await server.on_tick(0)
