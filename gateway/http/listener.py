"""Serves the gateway's application on its address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from mesh.config import Config
from mesh.http import listening as http
from mesh.tls.tls import Tls

MAX_MESSAGE_BYTES = 256 * 1024
MAX_CONNECTIONS = 2000
# How long requests may take to their end when the gateway stops: as long as calls to the services.
GRACE_SECONDS = 5.0


@asynccontextmanager
async def listening(app: ASGIApp, config: Config, tls: Tls | None = None) -> AsyncIterator[str]:
    """Serves `app` on LARES_GATEWAY_LISTEN until the block ends; yields the URL. Then sockets end at once,
    and requests that still run after GRACE_SECONDS are cancelled.

    Raises Conflict PORT_TAKEN.
    """
    async with http.listening(
        app,
        "gateway_listen",
        config,
        tls,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    ) as url:
        yield url
