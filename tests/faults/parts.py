"""The servers of a cluster as faults see them: each can be killed, stopped, and started again on the same
data and port."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

from deploy.embedded.llama import LlamaModel, open_llama
from deploy.embedded.postgres import open_postgres
from tests.support.s3 import S3Server
from tests.support.triton import Triton
from tests.support.waiting import until

RESTART_SECONDS = 120.0
Started = TypeVar("Started", S3Server, Triton)


class Server(Protocol):
    """`pid` is 0 while it does not run. `kill` and `stop` return when it is gone, `start` as soon as it runs,
    `ready` when it serves."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def kill(self) -> None: ...

    async def stop(self) -> None: ...

    async def start(self) -> None: ...

    async def ready(self) -> None: ...


class SupervisedServer:
    """An embedded part, which its supervisor starts again whenever it ends."""

    def __init__(self, name: str, home: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self._pid_file = home / "run" / f"{name}.pid"
        self._stop_signal = stop_signal

    @property
    def pid(self) -> int:
        try:
            return int(self._pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(self._stop_signal)

    async def _end(self, number: signal.Signals) -> None:
        ended = self.pid
        os.kill(ended, number)
        await until(lambda: self.pid != ended, RESTART_SECONDS, lambda: f"{self.name} does not end")

    async def start(self) -> None:
        """Its supervisor does that."""

    async def ready(self) -> None:
        await until(lambda: self.pid, RESTART_SECONDS, lambda: f"{self.name} does not start again")


class PostgresServer(SupervisedServer):
    def __init__(self, home: Path, url: str) -> None:
        # Fast shutdown, which does not wait for clients.
        super().__init__("postgres", home, signal.SIGINT)
        self._url = url
        (sockets,) = parse_qs(urlsplit(url).query)["host"]
        # To which the links of the store's processes lead.
        self.socket = f"{sockets}/.s.PGSQL.5432"

    def url_at(self, address: str) -> str:
        """The LARES_DATABASE_URL behind a link."""
        parts = urlsplit(self._url)
        login = parts.netloc.rpartition("@")[0]
        return f"{parts.scheme}://{login}@{address}{parts.path}"


class LlamaPart(SupervisedServer):
    def __init__(self, home: Path, url: str) -> None:
        super().__init__("llama", home, signal.SIGTERM)
        self.url = url

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def url_at(self, address: str) -> str:
        """The LARES_REASONER_URL behind a link."""
        return self.url.replace(f"127.0.0.1:{self.port}", address)


class StartedServer(Generic[Started]):
    """A server that the test starts itself. It ends by a kill only: SeaweedFS knows no other end, and
    Triton's processes end together, as in a container."""

    def __init__(self, server: Started) -> None:
        self.server: Started = server

    @property
    def pid(self) -> int:
        return self.server.pid

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def stop(self) -> None:
        await self.kill()

    async def start(self) -> None:
        self.server.start()  # on this thread: the kernel ties the child to the thread that starts it


class S3Part(StartedServer[S3Server]):
    name = "s3"

    async def ready(self) -> None:
        await asyncio.to_thread(self.server.until_open)


class TritonPart(StartedServer[Triton]):
    name = "triton"

    async def ready(self) -> None:
        await self.server.ready()


@asynccontextmanager
async def running_postgres_server(home: Path) -> AsyncIterator[PostgresServer]:
    async with open_postgres(home) as url:
        yield PostgresServer(home, url)


@asynccontextmanager
async def running_llama_part(home: Path, model: LlamaModel) -> AsyncIterator[LlamaPart]:
    home.mkdir(parents=True, exist_ok=True)
    async with open_llama(home, model) as url:
        yield LlamaPart(home, url)
