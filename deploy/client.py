"""A gRPC client of the Lares that runs on a home, for commands of the same machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from deploy.keys import saying_where
from mesh.config import Config, split_address
from mesh.problems import Unavailable
from mesh.rpc import API_KEY, Metadata

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
CONNECT_SECONDS = 10.0


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """A channel to LARES_GRPC_LISTEN, and the admin key as metadata. Raises Unavailable, where nobody listens
    NOT_RUNNING."""
    host, port = split_address(config.grpc_listen)
    host = EVERYWHERE.get(host, host)
    file = config.home / "admin.key"
    key = ((API_KEY, file.read_text().strip()),) if file.is_file() else ()
    with saying_where(f"on {config.home} with gRPC at {config.grpc_listen}"):
        async with await _channel(config, host, port) as channel:
            yield channel, key


async def _channel(config: Config, host: str, port: int) -> grpc.aio.Channel:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not config.tls_cert:
        return grpc.aio.insecure_channel(address)
    # Whoever holds the key of this very certificate is the one, by whatever name it goes.
    options = [("grpc.ssl_target_name_override", await _name(config, host, port))]
    credentials = grpc.ssl_channel_credentials(config.tls_cert.read_bytes())
    return grpc.aio.secure_channel(address, credentials, options=options)


async def _name(config: Config, host: str, port: int) -> str:
    """The first name in the certificate. Raises Unavailable."""
    context = ssl.create_default_context(cafile=config.tls_cert)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as error:  # ssl.SSLError and TimeoutError are ones
        raise Unavailable(str(error), grpc.StatusCode.UNAVAILABLE.name) from None
    shown = writer.get_extra_info("peercert")
    writer.close()
    names = [name for _, name in shown.get("subjectAltName", ())]
    return str(names[0]) if names else host
