"""Runs uvicorn (0.54.0) inside an event loop that something else owns.

`uvicorn.Server.serve` installs signal handlers, which belong to the composition root, and returns only when
the server ends. This does what it does otherwise, with the steps that it is made of. They are not
documented, and neither is its protocol: check them, with tests/unit/gateway/test_listener.py and
tests/unit/ingest_svc/test_push.py, when uvicorn is upgraded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DATE_SECONDS = 1.0
HEADER_SECONDS, MAX_HEADER_BYTES = 10.0, 64 * 1024


class BoundedHeaders(HttpToolsProtocol):
    """Closes connections whose request line and headers take too long, from the connection or the first
    byte on, or are too large. uvicorn has no limits for them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._awaiting: asyncio.TimerHandle | None = None
        self._header_bytes = self._received = 0
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        self._received = len(data)
        self._header_bytes += self._received
        super().data_received(data)
        if self._awaiting and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._received  # with what is left of the body before, perhaps
        self._await_headers()

    def on_headers_complete(self) -> None:
        self._have_headers()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._awaiting is None:
            self._awaiting = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _have_headers(self) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None


@asynccontextmanager
async def serving(config: uvicorn.Config, listening_socket: socket.socket) -> AsyncIterator[None]:
    """Serves until the block ends. `config` must be loaded."""
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.on_tick(0)
    await server.startup(sockets=[listening_socket])
    dates = asyncio.create_task(_keep_date(server), name="http dates")
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
