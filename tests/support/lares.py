"""A whole Lares as its users run it: `lares up` in its own process, on free ports and its own home."""

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

import httpx
import psutil

from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 240.0


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


class Refused(AssertionError):
    """GraphQL answered with errors."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.codes = {error.get("extensions", {}).get("code") for error in errors}


class Lares:
    """One home and its addresses; the process on it may come and go."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        targets: Sequence[str] = (),
        tree: Path = ROOT,
    ) -> None:
        """`tree`: the checkout whose code runs."""
        self.home = home
        self._tree = tree
        self._targets = [word for target in targets for word in ("--target", target)]
        http, grpc, kafka = free_ports(3)
        self.http, self.grpc, self.kafka = (f"127.0.0.1:{port}" for port in (http, grpc, kafka))
        self._settings = {
            "LARES_HOME": str(home),
            "LARES_GATEWAY_LISTEN": self.http,
            "LARES_GRPC_LISTEN": self.grpc,
            "LARES_KAFKA_LISTEN": self.kafka,
            "LARES_LOG_FORMAT": "json",
            **(settings or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_name(home.name + ".log")
        authority = self._settings.get("LARES_TLS_CA")
        self._client = httpx.AsyncClient(
            base_url=f"{'https' if authority else 'http'}://{self.http}",
            timeout=90,
            verify=ssl.create_default_context(cafile=authority) if authority else True,
        )

    @property
    def cameras(self) -> Path:
        return self.home / "cameras"

    @property
    def key(self) -> str:
        return (self.home / "admin.key").read_text().strip()

    @property
    def admin_kafka_password(self) -> str:
        """For tests that look into topics: the credentials that Lares itself uses."""
        text = (self.home / "kafka" / "server.properties").read_text()
        password = re.search(r'user_lares="([^"]+)"', text)
        assert password
        return password[1]

    @property
    def admin_kafka_url(self) -> str:
        return f"kafka://lares:{self.admin_kafka_password}@{self.kafka}"

    @property
    def admin_kafka_options(self) -> dict[str, Any]:
        """The same, as an aiokafka client takes it."""
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
                [sys.executable, "-m", "deploy", "up", *self._targets],
                cwd=self._tree,
                env=environment | self._settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self, seconds: float = READY_SECONDS) -> float:
        """Waits until /ready says so; returns the seconds it took. AssertionError holds the log's end."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            assert self.process is not None
            assert self.process.poll() is None, f"lares ended with {self.process.returncode}:\n{self.tail()}"
            try:
                if (await self._client.get("/ready")).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
        raise AssertionError(f"not ready after {seconds} s:\n{self.tail()}")

    async def until_up(self, seconds: float = READY_SECONDS) -> None:
        """Waits for the banner: for a Lares without a gateway."""
        await until(lambda: "Lares is ready" in self.tail(), seconds, self.tail)

    async def until_stored(self, count: int, seconds: float = 90.0) -> None:
        """Waits until so many media are in the store."""
        deadline = time.monotonic() + seconds
        query = "{ mediaList(first: 200) { edges { node { id } } } }"
        while len(await self._patiently(query, "mediaList", "edges") or ()) < count:
            assert time.monotonic() < deadline, self.tail()
            await asyncio.sleep(0.1)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """kill -9 of the parent alone, as an out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 90.0) -> float:
        """Ctrl-C; returns how many seconds it took to end. Raises TimeoutExpired."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(seconds)
        return time.monotonic() - began

    def children(self, program: str = "") -> list[psutil.Process]:
        """All that are alive, or those of a program or Python script."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if not program or program in _programs(child)]

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
        """The `data` of the answer; raises Refused when it holds errors."""
        answer = await self._client.post(
            "/graphql", json={"query": query, "variables": variables}, headers={"x-api-key": self.key}
        )
        body = answer.json()
        if "errors" in body:
            raise Refused(body["errors"])
        return body["data"]

    async def idle(self, seconds: float = 120.0) -> None:
        """Waits until nothing is in flight anywhere."""
        status: Any = None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = await self._patiently("{ status { idle } }", "status", "idle")
            if status:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not idle after {seconds} s: {status}\n{self.tail()}")

    async def _patiently(self, query: str, *path: str) -> Any:
        """What lies there in the answer; None where a part is away, or too slow at the moment."""
        try:
            answer = await self.graphql(query)
        except Refused as refused:
            if refused.codes != {"UNAVAILABLE"}:
                raise
            return None
        for name in path:
            answer = answer[name]
        return answer


def _programs(process: psutil.Process) -> list[str]:
    """What it runs; nothing where it just ended, as PostgreSQL's do all the time."""
    try:
        scripts = [Path(word).name for word in process.cmdline() if word.endswith(".py")]
        return [process.name(), *scripts]
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def running_lares(home: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[Lares]:
    """A Lares that is up and ready; stopped at the end."""
    lares = Lares(home, settings)
    lares.start()
    try:
        await lares.ready()
        yield lares
    finally:
        await lares.close()
