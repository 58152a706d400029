"""A whole Lares as users run it: `lares up` in its own process, on free ports and its own home."""

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil

from mesh.config import SIBLINGS
from tests.support.certificates import write_certificate
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 240.0
# How the services of one process call each other.
CHANNELS = ("in-process", "socket")


def free_ports(count: int) -> list[int]:
    """Different ports on which no program listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


class Refused(AssertionError):
    """A GraphQL response with errors, and their codes."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.codes = {error.get("extensions", {}).get("code") for error in errors}


class Lares:
    """One home and its addresses. Its process can be started, stopped and killed several times."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        targets: Sequence[str] = (),
        tree: Path = ROOT,
        channel: str = "in-process",
        program: str = "deploy",
    ) -> None:
        """`settings` are environment variables; `tree` is the checkout whose code runs; `program` is the
        module that is run, if it is another one than that of `lares`.

        `channel` is the one of CHANNELS through which the services call each other. With `socket` Lares
        listens for siblings with mutual TLS, as in a cluster, and its clients need TLS, too.
        """
        self.home = home
        self._tree, self._program = tree, program
        self._targets = [argument for target in targets for argument in ("--target", target)]
        self.http, self.grpc, self.kafka, mesh = (f"127.0.0.1:{port}" for port in free_ports(4))
        self._settings = {
            "LARES_HOME": str(home),
            "LARES_GATEWAY_LISTEN": self.http,
            "LARES_GRPC_LISTEN": self.grpc,
            "LARES_KAFKA_LISTEN": self.kafka,
            "LARES_LOG_FORMAT": "json",
            **(_socket_settings(home, mesh) if channel == "socket" else {}),
            **(settings or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_name(home.name + ".log")
        self.ca_file = self._settings.get("LARES_TLS_CA")
        self._client = self.http_client()

    @property
    def cameras(self) -> Path:
        return self.home / "cameras"

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What a client needs for TLS; None if Lares has no certificate."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None

    async def trust(self, authority: Path) -> None:
        """Trusts this CA from now on, for Lares has another certificate."""
        await self._client.aclose()
        self.ca_file = str(authority)
        self._client = self.http_client()

    def url(self, scheme: str = "http") -> str:
        """The gateway's address, with the scheme's secure form if Lares has a certificate."""
        return f"{scheme}{'s' if self.ca_file else ''}://{self.http}"

    def http_client(self) -> httpx.AsyncClient:
        """A client of the gateway without an API key."""
        return httpx.AsyncClient(base_url=self.url(), timeout=90, verify=self.tls or True)

    def grpc_channel(self) -> grpc.aio.Channel:
        """A channel for a client, to be closed by the caller."""
        if not self.ca_file:
            return grpc.aio.insecure_channel(self.grpc)
        trusted = grpc.ssl_channel_credentials(Path(self.ca_file).read_bytes())
        return grpc.aio.secure_channel(self.grpc, trusted)

    @property
    def key(self) -> str:
        return (self.home / "admin.key").read_text().strip()

    @property
    def admin_kafka_password(self) -> str:
        """The password with which Lares itself connects to its Kafka, for tests that read or write topics."""
        text = (self.home / "kafka" / "server.properties").read_text()
        password = re.search(r'user_lares="([^"]+)"', text)
        assert password
        return password[1]

    @property
    def admin_kafka_url(self) -> str:
        return f"kafka://lares:{self.admin_kafka_password}@{self.kafka}"

    @property
    def admin_kafka_options(self) -> dict[str, Any]:
        """The options of an aiokafka client that connects as Lares itself does."""
        return {
            "bootstrap_servers": self.kafka,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "lares",
            "sasl_plain_password": self.admin_kafka_password,
        }

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
        if "LARES_CACHE" in os.environ:
            environment["LARES_CACHE"] = os.environ["LARES_CACHE"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._program, "up", *self._targets],
                cwd=self._tree,
                env=environment | self._settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self, seconds: float = READY_SECONDS) -> float:
        """Waits until /ready responds with 200, and returns the seconds that it took.

        Raises AssertionError with the end of the log if the process exits or is not ready in time.
        """
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            assert self.process is not None
            assert self.process.poll() is None, f"lares exited with {self.process.returncode}:\n{self.tail()}"
            try:
                if (await self._client.get("/ready")).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
        raise AssertionError(f"not ready after {seconds} s:\n{self.tail()}")

    async def until_up(self, seconds: float = READY_SECONDS) -> None:
        """Waits for the banner in the log, for a Lares that has no gateway or is not ready yet."""
        await until(lambda: "Lares is ready" in self.tail(), seconds, self.tail)

    async def until_renewed(self, times: int) -> None:
        """Waits until the process has renewed its certificates so often since its first start."""
        await until(lambda: self.log.read_text().count("certificates renewed") >= times, what=self.tail)

    async def until_stored(self, count: int, seconds: float = 90.0) -> None:
        """Waits until the store has at least `count` media."""
        deadline = time.monotonic() + seconds
        query = "{ mediaList(first: 200) { edges { node { id } } } }"
        while len(await self._value_if_available(query, "mediaList", "edges") or ()) < count:
            assert time.monotonic() < deadline, self.tail()
            await asyncio.sleep(0.1)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """Kills the main process alone with SIGKILL, as an out-of-memory killer does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 90.0) -> float:
        """Sends SIGINT and returns the seconds until the process exits. Raises TimeoutExpired."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(seconds)
        return time.monotonic() - began

    def children(self, program: str = "") -> list[psutil.Process]:
        """The processes that Lares has started and that are alive; with `program`, those that run this
        program or Python script."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if not program or program in _programs(child)]

    def used_channel(self) -> str:
        """Returns which of CHANNELS the services use: over a socket the process is connected to itself."""
        assert self.process is not None
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        own = {connection.laddr for connection in connections}
        return "socket" if any(connection.raddr in own for connection in connections) else "in-process"

    async def close(self) -> None:
        await self._client.aclose()
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self._client.get(path, headers={"x-api-key": self.key, **headers})

    async def graphql(self, query: str, **variables: Any) -> Any:
        """Returns the `data` of the response. Raises Refused if it has errors."""
        response = await self._client.post(
            "/graphql", json={"query": query, "variables": variables}, headers={"x-api-key": self.key}
        )
        body = response.json()
        if "errors" in body:
            raise Refused(body["errors"])
        return body["data"]

    async def idle(self, seconds: float = 120.0) -> None:
        """Waits until no part of Lares has work left."""
        status: Any = None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = await self._value_if_available("{ status { idle } }", "status", "idle")
            if status:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not idle after {seconds} s: {status}\n{self.tail()}")

    async def _value_if_available(self, query: str, *path: str) -> Any:
        """Returns the value at `path` in the response; None if a part of Lares is not available now."""
        try:
            value = await self.graphql(query)
        except Refused as refused:
            if refused.codes != {"UNAVAILABLE"}:
                raise
            return None
        for name in path:
            value = value[name]
        return value


def _socket_settings(home: Path, address: str) -> dict[str, str]:
    """The settings with which the services call each other over a socket. Writes certificates next to the
    home."""
    folder = home.with_name(home.name + "-certificates")
    folder.mkdir(parents=True, exist_ok=True)
    certificates = {f"LARES_{name.upper()}": str(path) for name, path in write_certificate(folder).items()}
    return certificates | {
        "LARES_CHANNELS": "socket",
        "LARES_MESH_LISTEN": address,
        "LARES_PEERS": ",".join(f"{service}={address}" for service in SIBLINGS),
    }


def _programs(process: psutil.Process) -> list[str]:
    """The names of the program and the Python scripts that a process runs. Empty if it has ended, as
    processes of PostgreSQL do all the time."""
    try:
        scripts = [Path(argument).name for argument in process.cmdline() if argument.endswith(".py")]
        return [process.name(), *scripts]
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def running_lares(
    home: Path, settings: Mapping[str, str] | None = None, channel: str = "in-process"
) -> AsyncIterator[Lares]:
    """Starts a Lares and waits until it is ready; stops it at the end."""
    lares = Lares(home, settings, channel=channel)
    lares.start()
    try:
        await lares.ready()
        yield lares
    finally:
        await lares.close()
