"""Serves an ASGI application on an address, with uvicorn."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from mesh.addresses import split_address
from mesh.config import Config
from mesh.http.live_context import live_context
from mesh.http.uvicorn_internals import serving
from mesh.problems import Conflict
from mesh.tls.tls import Tls

BIND_SECONDS = 5.0
SHUTDOWN_SECONDS = 2

Application = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def listening(
    app: Application, setting: str, config: Config, tls: Tls | None, **options: Any
) -> AsyncIterator[str]:
    """Serves `app` on the address in this setting until the block ends; yields the URL with the port that was
    bound. Takes up to about 3 s to end, unless `options`, which are uvicorn's, say otherwise. The composition
    root has checked that this address may be used. Without `tls` it is plain HTTP.

    Raises Conflict PORT_TAKEN.
    """
    host, port = split_address(getattr(config, setting))
    settings = _settings(app, tls, options)
    listening_socket = await bind(host, port, f"LARES_{setting.upper()}")
    scheme = "https" if tls else "http"
    url_host = f"[{host}]" if ":" in host else host
    async with serving(settings, listening_socket):
        yield f"{scheme}://{url_host}:{listening_socket.getsockname()[1]}"


async def bind(host: str, port: int, setting: str) -> socket.socket:
    """Returns a listening socket. Tries again for 5 s if the port is in use, then raises Conflict
    PORT_TAKEN."""
    deadline = asyncio.get_running_loop().time() + BIND_SECONDS
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                message = f"{setting}: cannot listen on {host}:{port}: {error.strerror}"
                raise Conflict(message, "PORT_TAKEN") from None
            await asyncio.sleep(0.1)


def _settings(app: Application, tls: Tls | None, options: dict[str, Any]) -> uvicorn.Config:
    common: dict[str, Any] = {
        "http": "httptools",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        # Without this, a request would start with the caller of the previous request on its connection.
        "reset_contextvars": True,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
    }
    if tls:
        context = live_context(tls)
        common["ssl_context_factory"] = lambda *_: context
    settings = uvicorn.Config(app, **(common | options))
    settings.load()
    return settings
