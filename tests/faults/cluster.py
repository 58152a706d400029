"""Lares as a cluster: services as processes of their own, with replicas, on a Kafka, a PostgreSQL and an S3
that were started separately. All that they say to each other goes over links that can be cut."""

import asyncio
import itertools
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx

from tests.faults.kafka_cluster import KafkaCluster
from tests.faults.link import Address, Link
from tests.faults.models import Models, running_models
from tests.faults.parts import PostgresServer, S3Part, Server, running_postgres_server
from tests.faults.ports import Ports
from tests.faults.service_process import STUB, SWITCHES
from tests.faults.services import ProcessHost, ServiceProcess
from tests.support.certificates import write_certificate
from tests.support.home_database import home_database
from tests.support.lares import Refused
from tests.support.s3 import S3Server

# Which services each one calls, and what else it uses.
PEERS = {
    "ingest": ("store", "detect"),
    "detect": ("store",),
    "store": (),
    "reason": ("store",),
    "gateway": ("store", "ingest", "detect", "reason"),
}
USERS_OF_BLOBS = ("ingest", "detect", "store", "gateway")
USERS_OF_MODELS = {"triton": ("detect",), "llama": ("reason",)}
# Of the processes of ingest_svc: the one that watches the cameras folder now, and one that stands by.
WATCHER, STANDBY = "ingest-watcher", "ingest-standby"
_HOLDER = "SELECT holder FROM leases WHERE name LIKE 'folder/%' AND expires_at > clock_timestamp()"
AWAY_SECONDS = 10.0
SESSION_SECONDS = 3.0
BUCKET = "lares"


@dataclass(frozen=True)
class Layout:
    """How a cluster is built. `blobs` is `s3` or `file`, a folder that all share as by NFS; `detector` is
    `stub` or `triton`, `reasoner` is `rules` or `llama`. `settings` are for all services."""

    replicas: int = 2
    brokers: int = 1
    blobs: str = "s3"
    detector: str = "stub"
    reasoner: str = "rules"
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def slots(self) -> list[tuple[str, int]]:
        """Service and number of every process that may run; the last of each service is the one that is added
        for a while."""
        return [(target, number + 1) for target in PEERS for number in range(self.replicas + 1)]

    def is_extra(self, number: int) -> bool:
        return number > self.replicas


class Cluster:
    """Made by `running_cluster`. Has what tests read of a Lares: `graphql`, `grpc_channel`, `key`, `home`."""

    def __init__(
        self,
        layout: Layout,
        folder: Path,
        host: ProcessHost,
        kafka: KafkaCluster,
        postgres: PostgresServer,
        free: Ports,
    ) -> None:
        self.layout, self.folder, self.kafka, self.postgres = layout, folder, kafka, postgres
        self._free = free
        self.s3: S3Part | None = None
        self.models = Models()
        self.home = folder / "parts"
        # All ingest_svc mount it, as by NFS.
        self.cameras = folder / "cameras"
        self.services = {
            f"{target}-{number}": ServiceProcess(host, target, number, folder)
            for target, number in layout.slots
        }
        # By the process that they begin at, then by the part that they lead to.
        self.links: dict[str, dict[str, Link]] = {name: {} for name in self.services}
        self._addresses: dict[tuple[str, str], int] = {}
        self._turn = itertools.count()
        self._certificates = write_certificate(folder)
        self._tls = ssl.create_default_context(cafile=str(self._certificates["tls_ca"]))
        self._client = httpx.AsyncClient(verify=self._tls, timeout=15)

    # What tests read of a Lares.

    @property
    def key(self) -> str:
        return (self.services["store-1"].home / "admin.key").read_text().strip()

    @property
    def tls(self) -> ssl.SSLContext:
        return self._tls

    @property
    def admin_kafka_options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.kafka.bootstrap}

    def address_of(self, name: str, door: str) -> str:
        """Where a process listens: `gateway`, `grpc` or `mesh`."""
        return f"127.0.0.1:{self._addresses[name, door]}"

    def one_of(self, target: str) -> ServiceProcess:
        """A replica that is up, in turn; any if none is."""
        replicas = [each for each in self.services.values() if each.target == target]
        up = [each for each in replicas if each.pid and each.is_up()] or replicas
        return up[next(self._turn) % len(up)]

    def grpc_channel(self, target: str = "store") -> grpc.aio.Channel:
        """A channel for a client, to a replica that is up."""
        return self.channel_to(self.one_of(target).name)

    def channel_to(self, name: str) -> grpc.aio.Channel:
        trusted = grpc.ssl_channel_credentials(self._certificates["tls_ca"].read_bytes())
        return grpc.aio.secure_channel(self.address_of(name, "grpc"), trusted)

    async def graphql(self, query: str, **variables: Any) -> Any:
        """Asks a gateway that is up, and again for some seconds if a service is away, as clients should.
        Raises Refused if the response has errors."""
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                return await self._graphql(query, variables)
            except Refused as refused:
                if refused.codes != {"UNAVAILABLE"} or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.3)

    async def _graphql(self, query: str, variables: dict[str, Any]) -> Any:
        url = f"https://{self.address_of(self.one_of('gateway').name, 'gateway')}/graphql"
        body = {"query": query, "variables": variables}
        response = (await self._client.post(url, json=body, headers={"x-api-key": self.key})).json()
        if "errors" in response:
            raise Refused(response["errors"])
        return response["data"]

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the harness's own, over no link."""
        async with home_database(self.home) as connection:
            yield connection

    # What faults act on.

    @property
    def servers(self) -> dict[str, Server]:
        found: dict[str, Server] = {broker.name: broker for broker in self.kafka.brokers}
        found["postgres"] = self.postgres
        for part in (self.s3, self.models.triton, self.models.llama):
            if part:
                found[part.name] = part
        return found

    def running(self, *targets: str) -> list[ServiceProcess]:
        """The processes of these services, or of all, that are meant to run."""
        return [
            each for each in self.services.values() if each.wanted and (not targets or each.target in targets)
        ]

    async def watcher(self) -> str:
        """Which ingest_svc has the lease of the cameras folder; empty if none has it now, or the database
        does not say."""
        try:
            async with asyncio.timeout(AWAY_SECONDS), self.database() as connection:
                holder = str(await connection.fetchval(_HOLDER) or "")
        except Exception:  # asyncpg has many, some of them internal, for a server that is killed
            return ""
        ids = {each.name: each.home / "ingest.id" for each in self.running("ingest")}
        named = [name for name, id in ids.items() if id.exists() and holder.endswith(id.read_text().strip())]
        return named[0] if holder and named else ""

    async def in_role(self, role: str) -> ServiceProcess | None:
        """The ingest_svc that watches, or stands by, at this moment."""
        watcher = await self.watcher()
        if role == WATCHER or not watcher:
            return self.services.get(watcher)
        return next((each for each in self.running("ingest") if each.name != watcher and each.is_up()), None)

    def all_links(self) -> Iterator[Link]:
        for links in self.links.values():
            yield from links.values()
        for links_of_one in self.kafka.links.values():
            yield from links_of_one

    def links_of(self, name: str) -> list[Link]:
        """Those that are named `near - far`. A `far` of `kafka` means all brokers."""
        near, _, far = name.partition(" - ")
        brokers = self.kafka.links[near]
        if far == "kafka":
            return brokers
        return [link for link in (*brokers, *self.links[near].values()) if link.name == name]

    # Building it.

    async def start(self, stack: AsyncExitStack) -> None:
        if self.layout.blobs == "s3":
            self.s3 = S3Part(S3Server(self.folder / "s3", self._free.take(4)))
            await self.s3.start()
            stack.push_async_callback(self.s3.kill)
            await self.s3.ready()
            await asyncio.to_thread(self.s3.server.s3.make_bucket, BUCKET)
        layout, port = self.layout, self._free.one()
        running = running_models(self.folder / "models", layout.detector, layout.reasoner, port)
        self.models = await stack.enter_async_context(running)
        for service in self.services.values():
            ports = self._free.take(3)
            for door, port in zip(("gateway", "grpc", "mesh"), ports, strict=True):
                self._addresses[service.name, door] = port
        self.cameras.mkdir()
        for service in self.services.values():
            if service.target == "ingest":
                service.home.mkdir(parents=True)
                (service.home / "cameras").symlink_to(self.cameras)
            await self._connect(service)
            service.environment = self._environment(service)
        first = self.services["store-1"]
        await first.start()
        await first.up()
        for service in self.running_at_first():
            if service is not first:
                if service.target == "store":
                    self.share_key(service)
                await service.start()
        await asyncio.gather(*(service.up() for service in self.running_at_first()))

    def running_at_first(self) -> list[ServiceProcess]:
        return [each for each in self.services.values() if not self.layout.is_extra(each.number)]

    def share_key(self, service: ServiceProcess) -> None:
        """Stores that share a database share the file with the operator's key."""
        service.home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.services["store-1"].home / "admin.key", service.home / "admin.key")

    async def _connect(self, service: ServiceProcess) -> None:
        """Opens the links from a process to what it uses."""
        links, free = self.links[service.name], self._free
        for peer in PEERS[service.target]:
            links[peer] = Link(f"{service.name} - {peer}", partial(self._replicas_of, peer), free.one())
        if service.target == "store":
            links["postgres"] = Link(f"{service.name} - postgres", lambda: [self.postgres.socket], free.one())
        fixed = {}
        if self.s3 and service.target in USERS_OF_BLOBS:
            fixed["s3"] = ("127.0.0.1", self.s3.server.port)
        for model, address in self.models.addresses.items():
            if service.target in USERS_OF_MODELS[model]:
                fixed[model] = address
        for part, address in fixed.items():
            links[part] = Link(f"{service.name} - {part}", partial(_only, address), free.one())
        for link in links.values():
            await link.listen()

    def _replicas_of(self, target: str) -> list[Address]:
        return [
            ("127.0.0.1", self._addresses[each.name, "mesh"])
            for each in self.services.values()
            if each.target == target and each.pid
        ]

    def _environment(self, service: ServiceProcess) -> dict[str, str]:
        links = self.links[service.name]
        blobs = f"file://{self.folder}/blobs"
        if self.s3 and "s3" in links:
            server = self.s3.server
            blobs = server.s3.url(BUCKET).replace(f":{server.port}&", f":{links['s3'].port}&")
        own = {
            "LARES_HOME": str(service.home),
            "LARES_CACHE": str(self.folder / f"{service.name}.cache"),
            "LARES_LOG_FORMAT": "json",
            "LARES_BUS_SESSION_SECONDS": str(SESSION_SECONDS),
            "LARES_GATEWAY_LISTEN": self.address_of(service.name, "gateway"),
            "LARES_GRPC_LISTEN": self.address_of(service.name, "grpc"),
            "LARES_MESH_LISTEN": self.address_of(service.name, "mesh"),
            "LARES_BUS_URL": self.kafka.url_for(service.name),
            "LARES_BLOBS_URL": blobs,
            "LARES_PEERS": ",".join(f"{peer}={links[peer].address}" for peer in PEERS[service.target]),
            SWITCHES: str(service.switches.path),
        }
        if "postgres" in links:
            own["LARES_DATABASE_URL"] = self.postgres.url_at(links["postgres"].address)
        if self.layout.detector == "stub":
            own[STUB] = "stub"
        certificates = {f"LARES_{name.upper()}": str(path) for name, path in self._certificates.items()}
        models = self.models.settings({part: link.address for part, link in links.items()})
        return own | certificates | models | self.layout.settings

    async def close(self) -> None:
        await self._client.aclose()
        for link in self.all_links():
            await link.close()


def _only(address: Address) -> list[Address]:
    return [address]


@asynccontextmanager
async def running_cluster(layout: Layout, folder: Path, preload: Path | None) -> AsyncIterator[Cluster]:
    """Starts all parts and services, and waits until they are ready. Ends everything at the end.

    `preload` is a library that the services load first."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{target}-{number}" for target, number in layout.slots]
    async with AsyncExitStack() as stack:
        free = Ports()
        kafka = KafkaCluster(folder, layout.brokers, names, SESSION_SECONDS, free)
        for broker in kafka.brokers:
            stack.push_async_callback(broker.kill)
        (folder / "parts").mkdir(exist_ok=True)
        _, postgres = await asyncio.gather(
            kafka.start(), stack.enter_async_context(running_postgres_server(folder / "parts"))
        )
        host = ProcessHost(preload)
        stack.push_async_callback(host.close)
        await host.open()
        cluster = Cluster(layout, folder, host, kafka, postgres, free)
        stack.push_async_callback(cluster.close)
        await cluster.start(stack)
        yield cluster
