"""Lares as separate processes, one for each replica of each service, on given parts."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from mesh.config import SIBLINGS
from mesh.ports import port_is_free
from tests.support.certificates import write_certificate
from tests.support.lares import Lares
from tests.support.waiting import until_async

# In the order of an upgrade.
TAKEN: set[int] = set()
SERVICES = ("store", "reason", "gateway", "detect", "ingest")


def steady_ports(count: int) -> list[int]:
    """Ports that are free now, and that the system gives to no connection while a process restarts."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        if port not in TAKEN and port_is_free("127.0.0.1", port):
            TAKEN.add(port)
            found.append(port)
    return found


class Replica(Lares):
    """One process of one service."""

    def __init__(
        self, cluster: "Cluster", service: str, number: int, settings: Mapping[str, str], program: str
    ) -> None:
        self.cluster, self.service = cluster, service
        self.mesh = settings["LARES_MESH_LISTEN"]
        http, self.metrics = (f"127.0.0.1:{port}" for port in steady_ports(2))
        own = {
            "LARES_GATEWAY_LISTEN": http,
            "LARES_METRICS_LISTEN": self.metrics,
            "LARES_GRPC_LISTEN": "127.0.0.1:0",
        }
        home = cluster.folder / f"{service}-{number}"
        super().__init__(home, {**settings, **own}, [service], program=program)
        self.http = http
        self._client = self.http_client()

    @property
    def key(self) -> str:
        return self.cluster.key

    async def answer(self, path: str) -> httpx.Response | None:
        """What the process answers on LARES_METRICS_LISTEN; None if it does not."""
        try:
            async with httpx.AsyncClient(base_url=f"http://{self.metrics}", timeout=30) as client:
                return await client.get(path)
        except httpx.TransportError:
            return None

    async def says(self, path: str) -> bool:
        assert self.process
        assert self.process.poll() is None, f"{self.home.name} ended:\n{self.tail()}"
        answer = await self.answer(path)
        return answer is not None and answer.status_code == 200

    async def until_ready(self) -> None:
        await until_async(lambda: self.says("/ready"), 120)

    async def terminate(self) -> int:
        """Sends SIGTERM, as an orchestrator does, and returns the exit status."""
        assert self.process
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)


class Cluster:
    """Replicas of the services, which find each other by LARES_PEERS and talk by mutual TLS."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        counts: Mapping[str, int],
        own: Mapping[str, Mapping[str, str]] | None = None,
        program: str = "deploy",
    ) -> None:
        """`settings` are those of all processes, and `own` those of one service; `counts` says how many
        replicas a service has, none if it is not named; `program` is the module that is run, if it is another
        one than that of `lares`."""
        self.folder = folder
        files = {f"LARES_{name.upper()}": str(path) for name, path in write_certificate(folder).items()}
        mesh = {
            service: [f"127.0.0.1:{port}" for port in steady_ports(counts.get(service, 0))]
            for service in SERVICES
        }
        peers = ",".join(f"{service}=ipv4:{','.join(mesh[service])}" for service in SIBLINGS if mesh[service])
        # All ingest_svc mount it, as by NFS.
        self.cameras = folder / "cameras"
        self.cameras.mkdir(exist_ok=True)
        self.of: dict[str, list[Replica]] = {}
        for service in SERVICES:
            self.of[service] = [
                Replica(
                    self,
                    service,
                    number,
                    {
                        **files,
                        **settings,
                        **(own or {}).get(service, {}),
                        "LARES_MESH_LISTEN": mesh[service][number],
                        "LARES_PEERS": peers,
                    },
                    program,
                )
                for number in range(len(mesh[service]))
            ]
        for replica in self.of["ingest"]:
            replica.home.mkdir(exist_ok=True)
            if not replica.cameras.exists():
                replica.cameras.symlink_to(self.cameras)

    def __iter__(self) -> Iterator[Replica]:
        """All replicas, in the order of an upgrade."""
        return iter([replica for replicas in self.of.values() for replica in replicas])

    @property
    def key(self) -> str:
        """The admin key, which one of the stores has in its home."""
        files = [replica.home / "admin.key" for replica in self.of["store"]]
        (key,) = [file.read_text().strip() for file in files if file.exists()]
        return key

    @property
    def gateways(self) -> list[Replica]:
        return self.of["gateway"]


@asynccontextmanager
async def running_cluster(
    folder: Path,
    settings: Mapping[str, str],
    counts: Mapping[str, int],
    own: Mapping[str, Mapping[str, str]] | None = None,
    program: str = "deploy",
    later: Collection[str] = (),
) -> AsyncIterator[Cluster]:
    """Starts all processes at once, but those of the services in `later`, and waits until each is ready.
    Stops them at the end."""
    cluster = Cluster(folder, settings, counts, own, program)
    first = [replica for replica in cluster if replica.service not in later]
    try:
        for replica in first:
            replica.start()
        for replica in first:
            await replica.until_ready()
        yield cluster
    finally:
        for replica in cluster:
            if replica.process and replica.process.poll() is None:
                replica.process.terminate()
        for replica in cluster:
            await replica.close()
