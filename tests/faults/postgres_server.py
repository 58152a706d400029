"""PostgreSQL for fault runs: the embedded one, which its supervisor starts again whenever it ends."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from deploy.embedded.postgres import open_postgres
from tests.support.waiting import until

RESTART_SECONDS = 90.0


class PostgresServer:
    name = "postgres"

    def __init__(self, home: Path, url: str) -> None:
        self._home, self._url = home, url
        (sockets,) = parse_qs(urlsplit(url).query)["host"]
        # To which the links of the store's processes lead.
        self.socket = f"{sockets}/.s.PGSQL.5432"

    @property
    def pid(self) -> int:
        """Of the server that runs now, or 0."""
        try:
            return int((self._home / "run" / "postgres.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    def url_at(self, address: str) -> str:
        """The LARES_DATABASE_URL behind a link."""
        parts = urlsplit(self._url)
        login = parts.netloc.rpartition("@")[0]
        return f"{parts.scheme}://{login}@{address}{parts.path}"

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """Returns when it is gone, or another one runs already."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGINT)  # fast shutdown, which does not wait for clients

    async def _end(self, number: signal.Signals) -> None:
        ended = self.pid
        os.kill(ended, number)
        await until(lambda: self.pid != ended, RESTART_SECONDS, lambda: "PostgreSQL does not end")

    async def start(self) -> None:
        """Its supervisor does that."""

    async def ready(self) -> None:
        await until(lambda: self.pid, RESTART_SECONDS, lambda: "PostgreSQL does not start again")


@asynccontextmanager
async def running_postgres_server(home: Path) -> AsyncIterator[PostgresServer]:
    async with open_postgres(home) as url:
        yield PostgresServer(home, url)
