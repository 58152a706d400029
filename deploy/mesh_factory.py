"""Opens the mesh of one process. Only this module knows which of its parts are embedded."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc

from deploy.embedded.home import lock_home, private_socket_folder
from deploy.embedded.kafka import open_kafka
from deploy.embedded.llama import SCHEME, open_llama, parse_llama_url
from deploy.embedded.postgres import open_postgres, require_postgres
from mesh.blobs import open_blobs
from mesh.bus import open_bus
from mesh.config import Config, is_loopback_host, naming, split_address
from mesh.http.listening import listening
from mesh.http.process_endpoint import ProcessEndpoint
from mesh.http.uvicorn_internals import BoundedHeaders
from mesh.key_verifier import KeyVerifier
from mesh.mesh import Check, Mesh
from mesh.problems import Invalid
from mesh.readiness import Readiness
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.secret import Secret
from mesh.security import Caller, Door
from mesh.telemetry.metrics import Metrics

EMBEDDED = "embedded:"
# Connections to LARES_METRICS_LISTEN.
MAX_PROBES = 64
BLOB_USERS = {"ingest", "detect", "store", "gateway"}


@asynccontextmanager
async def open_process_endpoint(config: Config, readiness: Readiness, metrics: Metrics) -> AsyncIterator[str]:
    """Serves LARES_METRICS_LISTEN until the block ends; yields its URL, or nothing if it is not set. Raises
    Conflict PORT_TAKEN, Invalid BAD_SETTING."""
    if not config.metrics_listen:
        yield ""
        return
    guard_listening(config)
    async with listening(
        ProcessEndpoint(readiness, metrics),
        "metrics_listen",
        config,
        plain=True,
        http=BoundedHeaders,
        ws="none",
        limit_concurrency=MAX_PROBES,
    ) as url:
        yield url


@asynccontextmanager
async def open_mesh(
    config: Config,
    targets: Collection[str],
    *,
    database: bool,
    readiness: Readiness | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Mesh]:
    """Opens the mesh for the `targets` of this process; `database`: one of them needs PostgreSQL.

    Raises Conflict HOME_IN_USE or PORT_TAKEN, Invalid BAD_SETTING, and what an embedded part raises when it
    cannot be started.
    """
    guard_listening(config)
    readiness, metrics = readiness or Readiness(), metrics or Metrics()
    if database and config.database_url == EMBEDDED:
        await require_postgres(config.home)
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_home(config.home))
        config.cameras_folder.mkdir(exist_ok=True)
        used = not BLOB_USERS.isdisjoint(targets)
        blobs = await open_blobs(config, used=used)
        stack.callback(blobs.close)

        async def verify(secret: str) -> Caller:
            return await keys.verify(secret)

        server = GrpcServer(lambda door: CallInterceptor(door, verify if config.auth else None, metrics))
        local = dict.fromkeys(targets, server.channel()) if config.channels == "in-process" else {}
        channels = Channels(local, config.peers, peer_credentials(config))
        stack.push_async_callback(channels.close)
        keys = KeyVerifier(channels.to("store"))  # the store may run behind this very server
        addresses = await _listen(config, server, "store" in targets)
        bus_url, database_url, reasoner_url = await _open_parts(config, stack, targets, database)
        # Only this process uses the embedded Kafka. As a static member it gets its partitions back at once
        # after it was killed.
        instance = "lares" if config.bus_url == EMBEDDED else None
        bus = await stack.enter_async_context(
            open_bus(bus_url.value, client_id="lares", instance=instance, metrics=metrics)
        )
        await bus.create_topics()
        if config.bus_url == EMBEDDED:
            addresses["kafka"] = (
                f"{config.kafka_listen.rpartition(':')[0]}:{bus_url.value.rpartition(':')[2]}"
            )
        checks: dict[str, Check] = {"kafka": bus.check}
        if used:
            checks["blobs"] = blobs.check
        yield Mesh(
            config,
            bus,
            blobs,
            server,
            channels,
            keys,
            database_url,
            reasoner_url,
            config.database_url == EMBEDDED,
            addresses,
            checks,
            readiness=readiness,
            metrics=metrics,
        )


def operator_socket(home: Path) -> str:
    """Address of the private socket that offers KeyService to `lares keys`, and nothing else."""
    return f"unix:{private_socket_folder(home) / 'operator.sock'}"


def client_socket(home: Path) -> str:
    """Address of the private socket of the clients' door, for commands on this machine: it has no TLS and no
    port, but requires a key as for every client."""
    return f"unix:{private_socket_folder(home) / 'clients.sock'}"


async def _listen(config: Config, server: GrpcServer, keys: bool) -> dict[str, str]:
    """Opens the server's listeners; that of `lares keys` only if `keys` is set. Returns addresses by name."""
    clients = client_credentials(config)
    siblings = sibling_credentials(config) if config.mesh_listen else None
    if keys:
        await server.listen(operator_socket(config.home), door=Door.OPERATOR)
    await server.listen(client_socket(config.home))
    with naming("grpc_listen"):
        addresses = {"grpc": await server.listen(config.grpc_listen, clients)}
    if config.mesh_listen:
        with naming("mesh_listen"):
            addresses["mesh"] = await server.listen(config.mesh_listen, siblings, door=Door.SIBLINGS)
    return addresses


async def _open_parts(
    config: Config, stack: AsyncExitStack, targets: Collection[str], database: bool
) -> tuple[Secret, Secret, Secret]:
    """Starts the embedded parts concurrently. Returns the URLs of the bus, the database and the reasoner."""
    parts: dict[str, AbstractAsyncContextManager[str]] = {}
    if "reason" in targets and config.reasoner_url.startswith(SCHEME):
        parts["reasoner"] = open_llama(config.home, parse_llama_url(config.reasoner_url))
    if config.bus_url == EMBEDDED:
        parts["bus"] = open_kafka(config.home, config.kafka_listen, config.cache)
    if database and config.database_url == EMBEDDED:
        parts["database"] = open_postgres(config.home)
    starts = [stack.enter_async_context(part) for part in parts.values()]
    urls = dict(zip(parts, await _together(starts), strict=True))

    def url(part: str) -> Secret:
        return Secret.of(urls[part]) if part in urls else config.secret(f"{part}_url")

    return url("bus"), url("database"), url("reasoner")


async def _together(starts: list[Coroutine[Any, Any, str]]) -> list[str]:
    """Returns the results in order. If one start fails, cancels the others and waits for them before
    raising."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def guard_listening(config: Config) -> None:
    """Raises Invalid BAD_SETTING if anything would listen beyond loopback without TLS and that is not
    allowed."""
    if config.mesh_listen and not (config.tls_ca and config.tls_cert and config.tls_key):
        raise Invalid("LARES_MESH_LISTEN needs LARES_TLS_CA, LARES_TLS_CERT and LARES_TLS_KEY", "BAD_SETTING")
    if config.ftp_listen:
        guard_ftp(config)
    for setting in ("gateway_listen", "grpc_listen", "kafka_listen", "push_listen", "metrics_listen"):
        address = getattr(config, setting)
        if not address:
            continue
        secure = config.tls_cert and config.tls_key and setting != "kafka_listen"
        if not is_loopback(address) and not secure and not config.allow_plaintext:
            raise Invalid(
                f"LARES_{setting.upper()}={address} is reachable from other machines: set LARES_TLS_CERT and"
                " LARES_TLS_KEY, or set LARES_ALLOW_PLAINTEXT=true",
                "BAD_SETTING",
            )


def guard_ftp(config: Config) -> None:
    """Raises Invalid BAD_SETTING if FTP cannot be received, or only without TLS and that is not allowed."""
    if not (config.tls_cert and config.tls_key) and not config.ftp_plaintext:
        raise Invalid(
            "LARES_FTP_LISTEN needs LARES_TLS_CERT and LARES_TLS_KEY, or LARES_FTP_PLAINTEXT=true, with which"
            " others in the network can read passwords and media",
            "BAD_SETTING",
        )
    if not (find_spec("pyftpdlib") and find_spec("OpenSSL")):
        raise Invalid("LARES_FTP_LISTEN needs the extra `ftp`: pip install 'lares[ftp]'", "BAD_SETTING")


def is_loopback(address: str) -> bool:
    return is_loopback_host(split_address(address)[0])


def client_credentials(config: Config) -> grpc.ServerCredentials | None:
    """TLS for gRPC clients, or None if no certificate is set. Raises Invalid BAD_CERTIFICATE."""
    return grpc.ssl_server_credentials([certificate(config)]) if config.tls_cert else None


def sibling_credentials(config: Config) -> grpc.ServerCredentials:
    """Mutual TLS for siblings in other processes. Raises Invalid BAD_CERTIFICATE."""
    return grpc.ssl_server_credentials(
        [certificate(config)], root_certificates=authority(config), require_client_auth=True
    )


def peer_credentials(config: Config) -> grpc.ChannelCredentials | None:
    """The certificate that this process presents to its siblings, or None if there are no peers. Raises
    Invalid BAD_SETTING or BAD_CERTIFICATE."""
    if not config.peers:
        return None
    if not (config.tls_cert and config.tls_key and config.tls_ca):
        raise Invalid("LARES_PEERS needs LARES_TLS_CA, LARES_TLS_CERT and LARES_TLS_KEY", "BAD_SETTING")
    return grpc.ssl_channel_credentials(authority(config), *certificate(config))


def certificate(config: Config) -> tuple[bytes, bytes]:
    """The private key and the certificate chain, in PEM. Raises Invalid BAD_CERTIFICATE, because gRPC's own
    error would only be that it cannot listen."""
    assert config.tls_cert
    assert config.tls_key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The wrong password makes an encrypted key fail; without any, OpenSSL would prompt on the terminal.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="-")  # noqa: S106
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(f"LARES_TLS_CERT, LARES_TLS_KEY: {error}", "BAD_CERTIFICATE") from None
    return config.tls_key.read_bytes(), config.tls_cert.read_bytes()


def authority(config: Config) -> bytes:
    """The siblings' CA, in PEM. Raises Invalid BAD_CERTIFICATE."""
    assert config.tls_ca
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(config.tls_ca)
    except OSError as error:
        raise Invalid(f"LARES_TLS_CA: {error}", "BAD_CERTIFICATE") from None
    return config.tls_ca.read_bytes()
