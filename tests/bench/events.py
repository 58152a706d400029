"""`events(first: 50)` with 8 fields, CPU per request, against FastAPI returning the same JSON."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from tests.bench.measure import Row, cpu_seconds
from tests.support.lares import ROOT, free_ports, running_lares
from tests.support.photos import person_photo, renumbered

EVENTS = 50
REQUESTS = 400
QUERY = """{ events(first: 50) { edges { node {
  id status revision sequence startedAt endedAt closed labels } } } }"""


async def measure(folder: Path) -> list[Row]:
    async with running_lares(folder / "events") as lares:
        for index in range(EVENTS):
            camera = lares.cameras / f"cam-{index:02}"
            camera.mkdir(parents=True)
            (camera / ".photo.part").write_bytes(renumbered(person_photo(), index))
            (camera / ".photo.part").rename(camera / "photo.jpg")
        while len((await lares.graphql(QUERY))["events"]["edges"]) < EVENTS:
            await asyncio.sleep(0.2)
        await lares.idle()
        assert lares.process is not None
        process = psutil.Process(lares.process.pid)
        headers = {"x-api-key": lares.key}
        async with httpx.AsyncClient(base_url=f"http://{lares.http}", headers=headers, timeout=30) as client:
            body = (await client.post("/graphql", json={"query": QUERY})).content
            ours = await cpu_per_request(process, client, "POST", "/graphql", {"query": QUERY})
        answer = folder / "events.json"
        answer.write_bytes(body)
    theirs = await _fastapi(answer)
    ratio = ours / theirs
    return [
        Row(
            "events(first: 50) with 8 fields, CPU per request",
            f"{ours * 1000:.2f} ms",
            f"FastAPI {theirs * 1000:.2f} ms",
            f"{ratio:.1f}x",
            "<= 5x",
            ratio <= 5,
        )
    ]


async def cpu_per_request(
    process: psutil.Process, client: httpx.AsyncClient, method: str, path: str, body: object
) -> float:
    async def one() -> None:
        (await client.request(method, path, json=body)).raise_for_status()

    for _ in range(50):
        await one()
    idle_began = cpu_seconds([process])
    await asyncio.sleep(1)
    idle = cpu_seconds([process]) - idle_began
    loop = asyncio.get_running_loop()
    began, clock = cpu_seconds([process]), loop.time()
    for _ in range(REQUESTS):
        await one()
    # What the process does anyway, by the second, is no part of a request.
    return (cpu_seconds([process]) - began - idle * (loop.time() - clock)) / REQUESTS


async def _fastapi(answer: Path) -> float:
    """The peer: the same JSON from Python objects, through FastAPI on the same server program."""
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.peers.fastapi_events", str(answer), str(port)], cwd=ROOT
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(200):
                try:
                    await client.get("/events")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            return await cpu_per_request(psutil.Process(server.pid), client, "GET", "/events", None)
    finally:
        server.terminate()
        server.wait()
