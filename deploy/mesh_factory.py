"""Opens the mesh of one process. Only this module knows which of its parts are embedded."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from deploy.embedded.home import lock_home, private_socket_folder, require_restored
from deploy.embedded.kafka import open_kafka
from deploy.embedded.llama import SCHEME, open_llama, parse_llama_url
from deploy.embedded.postgres import open_postgres, require_postgres
from mesh.addresses import is_loopback_host, split_address
from mesh.blobs import open_blobs
from mesh.bus import BusSettings, open_bus
from mesh.config import Config, naming, setting
from mesh.http.listening import listening
from mesh.http.process_endpoint import ProcessEndpoint
from mesh.http.uvicorn_internals import BoundedHeaders
from mesh.key_verifier import KeyVerifier
from mesh.mesh import Check, Mesh
from mesh.problems import Invalid
from mesh.readiness import Readiness
from mesh.rpc import Channels, GrpcServer
from mesh.rpc.credentials import server_credentials, sibling_credentials
from mesh.rpc.interceptor import CallInterceptor
from mesh.secret import Secret
from mesh.security import Caller, Door
from mesh.telemetry.metrics import Metrics
from mesh.tls.tls import Tls
from mesh.topics import used_by

log = structlog.get_logger(__name__)

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
        None,
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

    Raises Conflict HOME_IN_USE, RESTORE_UNFINISHED or PORT_TAKEN, Invalid BAD_SETTING, and what an embedded
    part raises when it cannot be started.
    """
    guard_listening(config)
    guard_siblings(config)
    readiness, metrics = readiness or Readiness(), metrics or Metrics()
    if database and config.database_url == EMBEDDED:
        await require_postgres(config.home)
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_home(config.home))
        require_restored(config.home)
        config.cameras_folder.mkdir(exist_ok=True)
        tls = await _open_tls(config, targets)
        used = not BLOB_USERS.isdisjoint(targets)
        blobs = await open_blobs(config, used=used)
        stack.callback(blobs.close)

        async def verify(secret: str) -> Caller:
            return await keys.verify(secret)

        server = GrpcServer(lambda door: CallInterceptor(door, verify if config.auth else None, metrics))
        local = dict.fromkeys(targets, server.channel()) if config.channels == "in-process" else {}
        secured = tls if config.peers and not config.mesh_plaintext else None
        channels = Channels(local, config.peers, sibling_credentials(secured) if secured else None)
        stack.push_async_callback(channels.close)
        keys = KeyVerifier(channels.to("store"))  # the store may run behind this very server
        addresses = await _listen(config, server, tls, "store" in targets)
        bus_url, database_url, reasoner_url = await _open_parts(config, stack, targets, database)
        # Only this process uses the embedded Kafka. As a static member it gets its partitions back at once
        # after it was killed.
        instance = "lares" if config.bus_url == EMBEDDED else None
        settings = BusSettings.of(config)
        bus = await stack.enter_async_context(
            open_bus(bus_url, client_id="lares", instance=instance, settings=settings, metrics=metrics)
        )
        await bus.create_topics(*used_by(targets))
        if config.bus_url == EMBEDDED:
            addresses["kafka"] = (
                f"{config.kafka_listen.rpartition(':')[0]}:{bus_url.value.rpartition(':')[2]}"
            )
        checks: dict[str, Check] = {"kafka": bus.check}
        if used:
            checks["blobs"] = blobs.check
        mesh = Mesh(
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
            tls=tls,
        )
        if tls:
            if "gateway" in targets:
                checks["certificate"] = tls.check
                mesh.awaited.add("certificate")  # nothing else needs it
            readiness.details.append(tls.report)
            stack.enter_context(metrics.sampling(tls.sample))
            await stack.enter_async_context(mesh.running("certificates", tls.keep_fresh()))
        yield mesh


def operator_socket(home: Path) -> str:
    """Address of the private socket that offers KeyService to `lares keys`, and nothing else."""
    return f"unix:{private_socket_folder(home) / 'operator.sock'}"


def client_socket(home: Path) -> str:
    """Address of the private socket of the clients' door, for commands on this machine: it has no TLS and no
    port, but requires a key as for every client."""
    return f"unix:{private_socket_folder(home) / 'clients.sock'}"


async def _open_tls(config: Config, targets: Collection[str]) -> Tls | None:
    """Raises Invalid BAD_CERTIFICATE or BAD_AUTHORITY, and Unavailable AUTHORITY_IN_USE."""
    if not config.has_tls:
        return None
    from mesh.tls.factory import open_tls  # not without TLS: it loads a large library

    return await asyncio.to_thread(open_tls, config, targets)


async def _listen(config: Config, server: GrpcServer, tls: Tls | None, keys: bool) -> dict[str, str]:
    """Opens the server's listeners; that of `lares keys` only if `keys` is set. Returns addresses by name."""
    clients = server_credentials(tls, Door.CLIENTS) if tls else None
    if keys:
        await server.listen(operator_socket(config.home), door=Door.OPERATOR)
    await server.listen(client_socket(config.home))
    with naming("grpc_listen"):
        addresses = {"grpc": await server.listen(config.grpc_listen, clients)}
    if config.mesh_listen:
        siblings = server_credentials(tls, Door.SIBLINGS) if tls and not config.mesh_plaintext else None
        if siblings is None:
            log.warning("siblings talk without TLS: whoever reaches this address may do everything")
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
    allowed. `metrics_listen` never has TLS: with a certificate the process is meant to be reached, and it
    neither takes nor tells a secret (docs/deploy.md says what it tells)."""
    if config.ftp_listen:
        guard_ftp(config)
    for name in ("gateway_listen", "grpc_listen", "kafka_listen", "push_listen", "metrics_listen"):
        address = getattr(config, name)
        if not address:
            continue
        secure = config.has_tls and name != "kafka_listen"
        if not is_loopback(address) and not secure and not config.allow_plaintext:
            raise Invalid(
                f"{setting(name)}={address} is reachable from other machines: set LARES_TLS_MODE=self_signed,"
                " or LARES_TLS_CERT and LARES_TLS_KEY, or LARES_ALLOW_PLAINTEXT=true",
                "BAD_SETTING",
            )


def guard_siblings(config: Config) -> None:
    """Raises Invalid BAD_SETTING if siblings in other processes could be spoken to without mutual TLS, and
    that is not allowed: also on loopback, where every user of this machine could be a sibling."""
    used = [name for name in ("mesh_listen", "peers") if getattr(config, name)]
    has_ca = config.tls_mode_used == "self_signed" or (config.has_tls and config.tls_ca)
    if used and not has_ca and not config.mesh_plaintext:
        raise Invalid(
            f"{setting(used[0])} needs LARES_TLS_CA, LARES_TLS_CERT and LARES_TLS_KEY, or"
            " LARES_TLS_MODE=self_signed, or LARES_MESH_PLAINTEXT=true, with which everybody who reaches"
            " LARES_MESH_LISTEN is a sibling",
            "BAD_SETTING",
        )


def guard_ftp(config: Config) -> None:
    """Raises Invalid BAD_SETTING if FTP cannot be received, or only without TLS and that is not allowed."""
    if not config.has_tls and not config.ftp_plaintext:
        raise Invalid(
            "LARES_FTP_LISTEN needs LARES_TLS_MODE=self_signed, or LARES_TLS_CERT and LARES_TLS_KEY, or"
            " LARES_FTP_PLAINTEXT=true, with which others in the network can read passwords and media",
            "BAD_SETTING",
        )
    if not (find_spec("pyftpdlib") and find_spec("OpenSSL")):
        raise Invalid("LARES_FTP_LISTEN needs the extra `ftp`: pip install 'lares[ftp]'", "BAD_SETTING")


def is_loopback(address: str) -> bool:
    return is_loopback_host(split_address(address)[0])
