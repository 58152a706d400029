"""The address of the gateway, and uvicorn on it, in the event loop of everything else."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mesh.config import Config, split_address
from mesh.problems import Conflict, Invalid

PATIENCE_SECONDS = 5.0
GRACE_SECONDS = 2
LARGEST_MESSAGE = 256 * 1024
MOST_CONNECTIONS = 2000


@asynccontextmanager
async def listening(app: ASGIApp, config: Config) -> AsyncIterator[str]:
    """Serves `app` on LARES_GATEWAY_LISTEN; gives the URL with the port in fact bound. Raises Conflict
    PORT_TAKEN, Invalid BAD_CERTIFICATE. Ends within some 3 s. What may be listened on, the composition root
    has checked.
    """
    host, port = split_address(config.gateway_listen)
    server = uvicorn.Server(_settings(app, config.tls_cert, config.tls_key))
    opened = await bind(host, port)
    scheme = "https" if config.tls_cert else "http"
    shown = f"[{host}]" if ":" in host else host
    async with _serving(server, opened):
        yield f"{scheme}://{shown}:{opened.getsockname()[1]}"


@asynccontextmanager
async def _serving(server: uvicorn.Server, opened: socket.socket) -> AsyncIterator[None]:
    """uvicorn's own `serve`, less its signal handlers: signals are the composition root's."""
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[opened])
    ticking = asyncio.create_task(server.main_loop(), name="gateway")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(ticking, return_exceptions=True)
        await server.shutdown(sockets=[opened])


async def bind(host: str, port: int) -> socket.socket:
    """A listening socket; waits 5 s for a port that is still taken."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                reason = f"LARES_GATEWAY_LISTEN: {host}:{port} cannot be used: {error.strerror}"
                raise Conflict(reason, "PORT_TAKEN") from None
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
        # Else a request starts as the caller of the one before it in its connection.
        reset_contextvars=True,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        settings.load()
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(f"LARES_TLS_CERT, LARES_TLS_KEY: {error}", "BAD_CERTIFICATE") from None
    return settings
