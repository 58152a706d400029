"""Runs uvicorn (0.54.0) inside an event loop that something else owns.

`uvicorn.Server.serve` installs signal handlers, which belong to the composition root, and returns only when
the server ends. This does what it does otherwise, with the steps that it is made of. They are not documented:
check them, with tests/unit/gateway/test_listener.py, when uvicorn is upgraded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn


@asynccontextmanager
async def serving(config: uvicorn.Config, listening_socket: socket.socket) -> AsyncIterator[None]:
    """Serves until the block ends. `config` must be loaded."""
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening_socket])
    main_loop = asyncio.create_task(server.main_loop(), name="gateway")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(main_loop, return_exceptions=True)
        await server.shutdown(sockets=[listening_socket])
