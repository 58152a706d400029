"""Every WebSocket that is open now, and whether its key still is good."""

import asyncio
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from gateway.engine import Engine
from gateway.guard import Doorkeeper
from gateway.metrics import Metrics
from gateway.websocket import Socket

# With the seconds that a key is remembered, a revoked one is out after less than 5.
RECHECK_SECONDS = 1.0
CLOSE_SECONDS = 1.0


class Sockets:
    """The ASGI application for WebSockets."""

    def __init__(self, engine: Engine, doorkeeper: Doorkeeper, metrics: Metrics) -> None:
        self._parts = engine, doorkeeper, metrics
        self._open: set[Socket] = set()
        metrics.sockets.set_function(lambda: len(self._open))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = Socket(*self._parts, (scope, receive, send))
        self._open.add(socket)
        try:
            await socket.serve()
        finally:
            self._open.discard(socket)

    async def keep_checking(self) -> None:
        """Runs for ever."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            await self.recheck()

    async def recheck(self) -> None:
        """Closes the sockets whose keys were revoked."""
        # One after the other: the first of each key asks the store, the others find the answer remembered.
        unwelcome = [socket for socket in list(self._open) if not await socket.is_welcome()]
        with suppress(TimeoutError):  # who reads nothing is told nothing more either
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(socket.close(4403, "Forbidden") for socket in unwelcome))
