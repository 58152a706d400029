"""`events(first: 50)` with 8 fields, CPU per request, against FastAPI with SQLAlchemy's ORM, asyncpg and
pydantic on the same database. The requests to both alternate in one run."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import psutil

from tests.bench.measure import cpu_seconds
from tests.support.lares import ROOT, Lares, free_ports

EVENTS = 50
WARM_UP, REQUESTS, ROUNDS = 50, 100, 8  # requests to each in a round
IDLE_SECONDS = 3.0
LIMIT = 0.75
QUERY = """{ events(first: 50) { edges { node {
  id status revision sequence startedAt endedAt closed labels } } } }"""

Request = Callable[[], Awaitable[httpx.Response]]


class Compared(NamedTuple):
    """The CPU seconds of a request to Lares and of one to its peer, and those of PostgreSQL for each."""

    lares: float
    peer: float
    database: float
    peers_database: float


async def compare_with_peer(lares: Lares) -> Compared:
    """Asks Lares and its peer alternately for the newest events, of which Lares must have at least EVENTS."""
    assert lares.process is not None
    main = psutil.Process(lares.process.pid)
    async with _peer(lares) as (peer, ask_peer), _client(lares) as ask:
        _require_equal((await ask()).json(), (await ask_peer()).json())
        for _ in range(WARM_UP):
            await ask()
            await ask_peer()
        database = lares.children("postgres")
        # What they do anyway, by the second, is no part of a request.
        main_idle, database_idle, idle_seconds = await _used([main], database, asyncio.sleep(IDLE_SECONDS))
        sides = ((main, ask, main_idle / idle_seconds), (peer, ask_peer, 0.0))
        process_totals, database_totals = [0.0, 0.0], [0.0, 0.0]
        for _ in range(ROUNDS):
            for side, (process, request, idle) in enumerate(sides):
                used, by_database, seconds = await _used([process], database, _repeat(request, REQUESTS))
                process_totals[side] += used - idle * seconds
                database_totals[side] += by_database - database_idle / idle_seconds * seconds
        return Compared(*(total / (ROUNDS * REQUESTS) for total in process_totals + database_totals))


async def _used(
    processes: Collection[psutil.Process], database: Collection[psutil.Process], work: Awaitable[object]
) -> tuple[float, float, float]:
    """The CPU seconds that these processes and PostgreSQL's used during `work`, and how long it took."""
    clock = asyncio.get_running_loop().time
    before = cpu_seconds(processes), cpu_seconds(database), clock()
    await work
    return cpu_seconds(processes) - before[0], cpu_seconds(database) - before[1], clock() - before[2]


async def _repeat(request: Request, times: int) -> None:
    for _ in range(times):
        (await request()).raise_for_status()


async def cpu_per_request(
    process: psutil.Process, client: httpx.AsyncClient, method: str, path: str, body: object
) -> float:
    """The CPU seconds of this process for a request, less what it does anyway by the second."""

    async def one() -> httpx.Response:
        return await client.request(method, path, json=body)

    await _repeat(one, WARM_UP)
    idle, _, idle_seconds = await _used([process], [], asyncio.sleep(IDLE_SECONDS))
    used, _, seconds = await _used([process], [], _repeat(one, ROUNDS * REQUESTS))
    return (used - idle * seconds / idle_seconds) / (ROUNDS * REQUESTS)


@asynccontextmanager
async def _client(lares: Lares) -> AsyncIterator[Request]:
    async with httpx.AsyncClient(
        base_url=f"http://{lares.http}", headers={"x-api-key": lares.key}, timeout=30
    ) as client:

        async def ask() -> httpx.Response:
            return await client.post("/graphql", json={"query": QUERY})

        yield ask


@asynccontextmanager
async def _peer(lares: Lares) -> AsyncIterator[tuple[psutil.Process, Request]]:
    """The peer on the same server program and the same database, with Lares's own key."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.bench.peers.fastapi_events", _database_url(lares), str(port)]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": lares.key}, timeout=30
        ) as client:

            async def ask() -> httpx.Response:
                return await client.get("/events", params={"first": EVENTS})

            while True:
                assert server.poll() is None, "the peer has exited"
                try:
                    (await ask()).raise_for_status()
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            yield psutil.Process(server.pid), ask
    finally:
        server.terminate()
        server.wait()


def _database_url(lares: Lares) -> str:
    """The URL of the PostgreSQL that this Lares has started."""
    folder = lares.home / "postgres"
    password = (folder / "password").read_text().strip()
    sockets = (folder / "data" / "postmaster.pid").read_text().splitlines()[4]
    return f"postgresql+asyncpg://lares:{password}@/lares?host={quote(sockets)}"


def _require_equal(ours: dict[str, Any], theirs: list[dict[str, Any]]) -> None:
    """Raises AssertionError unless both answers have the same events with the same values."""
    nodes = [edge["node"] for edge in ours["data"]["events"]["edges"]]
    assert len(nodes) == EVENTS
    assert [_comparable(node) for node in nodes] == [_comparable(event) for event in theirs]


def _comparable(event: dict[str, Any]) -> dict[str, Any]:
    """GraphQL writes names in camel case, 64-bit numbers as text, and times without trailing zeros."""
    values = {name.replace("_", "").lower(): value for name, value in event.items()}
    for name in ("revision", "sequence"):
        values[name] = int(values[name])
    for name in ("startedat", "endedat"):
        values[name] = datetime.fromisoformat(values[name])
    return values
