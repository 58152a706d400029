"""Serves the pushes of cameras on LARES_PUSH_LISTEN."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest_svc.receiving.push.application import PushApplication
from mesh.config import Config
from mesh.http.listening import listening
from mesh.http.uvicorn_internals import BoundedHeaders
from mesh.tls.tls import Tls

MAX_CONNECTIONS = 256


@asynccontextmanager
async def listening_for_pushes(
    app: PushApplication, config: Config, tls: Tls | None = None
) -> AsyncIterator[str]:
    """Until the block ends; yields the URL. Raises Conflict PORT_TAKEN."""
    async with listening(
        app, "push_listen", config, tls, http=BoundedHeaders, ws="none", limit_concurrency=MAX_CONNECTIONS
    ) as url:
        yield url
