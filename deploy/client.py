"""A gRPC client for commands that run on the same machine as Lares."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from deploy.keys import saying_where
from deploy.mesh_factory import client_socket
from mesh.config import Config
from mesh.rpc import API_KEY, Metadata


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """Yields a channel to the clients' door of the Lares that uses this home, and the admin key as metadata.

    Within the block, an unavailable Lares raises Unavailable, with the reason NOT_RUNNING if nothing listens.
    """
    file = config.home / "admin.key"
    key = ((API_KEY, file.read_text().strip()),) if file.is_file() else ()
    async with grpc.aio.insecure_channel(client_socket(config.home)) as channel:
        with saying_where(f"on {config.home}"):
            yield channel, key
