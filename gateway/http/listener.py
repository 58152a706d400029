"""Serves the gateway's application on its address, with uvicorn."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from gateway.http.uvicorn_internals import serving
from mesh.config import Config, split_address
from mesh.problems import Conflict, Invalid

BIND_SECONDS = 5.0
SHUTDOWN_SECONDS = 2
MAX_MESSAGE_BYTES = 256 * 1024
MAX_CONNECTIONS = 2000


@asynccontextmanager
async def listening(app: ASGIApp, config: Config) -> AsyncIterator[str]:
    """Serves `app` on LARES_GATEWAY_LISTEN until the block ends; yields the URL with the port that was bound.
    Takes up to about 3 s to end. The composition root has checked that this address may be used.

    Raises Conflict PORT_TAKEN, Invalid BAD_CERTIFICATE.
    """
    host, port = split_address(config.gateway_listen)
    settings = _settings(app, config.tls_cert, config.tls_key)
    listening_socket = await bind(host, port)
    scheme = "https" if config.tls_cert else "http"
    url_host = f"[{host}]" if ":" in host else host
    async with serving(settings, listening_socket):
        yield f"{scheme}://{url_host}:{listening_socket.getsockname()[1]}"


async def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Tries again for 5 s if the port is in use, then raises Conflict
    PORT_TAKEN."""
    deadline = asyncio.get_running_loop().time() + BIND_SECONDS
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                message = f"LARES_GATEWAY_LISTEN: cannot listen on {host}:{port}: {error.strerror}"
                raise Conflict(message, "PORT_TAKEN") from None
            await asyncio.sleep(0.1)


def _settings(app: ASGIApp, certificate: Path | None, key: Path | None) -> uvicorn.Config:
    settings = uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Without this, a request would start with the caller of the previous request on its connection.
        reset_contextvars=True,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    try:
        settings.load()
    except OSError as error:  # ssl.SSLError is an OSError
        raise Invalid(f"LARES_TLS_CERT, LARES_TLS_KEY: {error}", "BAD_CERTIFICATE") from None
    return settings
