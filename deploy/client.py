"""A gRPC client of the Lares that runs on a home, for commands of the same machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from deploy.keys import saying_where
from deploy.opening import client_socket
from mesh.config import Config
from mesh.rpc import API_KEY, Metadata


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """A channel to the clients' door of the Lares that runs on this home, and the admin key as metadata.
    Raises Unavailable, where nobody listens NOT_RUNNING."""
    file = config.home / "admin.key"
    key = ((API_KEY, file.read_text().strip()),) if file.is_file() else ()
    async with grpc.aio.insecure_channel(client_socket(config.home)) as channel:
        with saying_where(f"on {config.home}"):
            yield channel, key
