"""Every WebSocket that is open now, and whether its key still is good."""

import asyncio

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

    async def recheck(self) -> None:
        """Runs for ever: closes the sockets whose keys were revoked."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            for socket in list(self._open):
                try:
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await socket.recheck()
                except TimeoutError:
                    pass  # it reads nothing, so it is told nothing more either
